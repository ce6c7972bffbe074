"""For tests, also of other projects: a small RLDS data set, digests of directories, and faults.

make_rlds, make_tokenizer    a data set that the schema `libero_depth` reads; a tokenizer.json
tree_digest                  two stores have the same bytes if these are equal
damages, interrupt           spoiled files; work in a process of its own that a signal stops
back_project, support_plane  the points of a depth map, and the largest plane among them
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Float64, UInt8, UInt16

from depthtok.disk.digests import file_sha256
from depthtok.disk.temporaries import TEMPORARY
from depthtok.signals import NUMBERS, Stopped, stoppable
from depthtok.sources.features import Feature
from depthtok.sources.write import RldsWriter
from depthtok.stores.spec import SEEN, SPEED

Edit = Callable[[int, dict], None]
_CAMERAS = ("", "wrist_")  # what the features of the two cameras begin with


def make_rlds(
    path: Path,
    *,
    episodes: int = 6,
    steps: int | Sequence[int] = 5,
    size: int = 32,
    shards: int = 3,
    seed: int = 0,
    depth: bool = True,
    name: str = "libero_sim_depth",
    split: str = "train",
    edit: Edit | None = None,
) -> Path:
    """Writes an RLDS directory of two cameras, `size` px a side; returns its path.

    Equal arguments make equal bytes. `steps` counts the steps of every episode, or of each. `edit`
    is given the number and the values of each episode, by feature, and may change them: an image
    can be replaced by any bytes.
    """
    counts = [steps] * episodes if isinstance(steps, int) else list(steps)
    features = {feature.path: feature for feature in _features(size, depth=depth)}
    writer = RldsWriter(Path(path), name, "1.0.0", features, "Boxes that move, for tests")

    def values(number: int) -> dict:
        episode = _episode(number, counts[number], size, np.random.default_rng([seed, number]))
        episode = {key: value for key, value in episode.items() if key in features}
        if edit is not None:
            edit(number, episode)
        return episode

    for shard, numbers in enumerate(np.array_split(np.arange(len(counts)), shards)):
        writer.write_shard(split, shard, shards, map(values, numbers.tolist()))
    return writer.finish()


def _features(size: int, *, depth: bool) -> Iterator[Feature]:
    observation = "steps/observation"
    for camera in _CAMERAS:
        yield Feature(f"{observation}/{camera}image", "image", "uint8", (size, size, 3), "jpeg")
        if depth:
            shape = (size, size, 1)
            yield Feature(f"{observation}/{camera}depth", "image", "uint16", shape, "png")
        name = f"episode_metadata/{camera}camera_intrinsics"
        yield Feature(name, "tensor", "float32", (9,), "none", per_step=False)
    yield Feature(f"{observation}/segmentation", "image", "uint8", (size, size, 1), "png")
    yield Feature(f"{observation}/state", "tensor", "float32", (8,), "none")
    yield Feature("steps/action", "tensor", "float32", (7,), "none")
    yield Feature("steps/language_instruction", "text", "str")
    for flag in ("is_first", "is_last", "is_terminal"):
        yield Feature(f"steps/{flag}", "scalar", "bool", (), "none")


def _episode(number: int, steps: int, size: int, rng: np.random.Generator) -> dict:
    values: dict = {
        "steps/observation/state": rng.normal(size=(steps, 8)).astype(np.float32),
        "steps/action": _actions(rng.normal(size=(steps, 7)).astype(np.float32)),
        "steps/language_instruction": [f"move box {number % 3}"] * steps,
        "steps/is_first": np.arange(steps) == 0,
        "steps/is_last": np.arange(steps) == steps - 1,
        "steps/is_terminal": np.arange(steps) == steps - 1,
    }
    for camera in _CAMERAS:
        depth, box = _scene(steps, size, rng)
        rgb = np.repeat(255 - depth // 16, 3, axis=-1).astype(np.uint8)
        values[f"steps/observation/{camera}depth"] = depth
        values[f"steps/observation/{camera}image"] = np.where(box, np.uint8(200), rgb)
        values[f"episode_metadata/{camera}camera_intrinsics"] = np.array(
            [size, 0, size / 2, 0, size, size / 2, 0, 0, 1], np.float32
        )
        if not camera:
            values["steps/observation/segmentation"] = box.astype(np.uint8)
    return values


def _actions(values: Float32[np.ndarray, "T 7"]) -> Float32[np.ndarray, "T 7"]:
    """The values with a last column of -1 and 1, a gripper's."""
    return np.hstack([values[:, :6], np.where(values[:, 6:] < 0, -1, 1).astype(np.float32)])


def _scene(
    steps: int, size: int, rng: np.random.Generator
) -> tuple[UInt16[np.ndarray, "T S S 1"], UInt8[np.ndarray, "T S S 1"]]:
    """Depth in millimetres, and where the box is: it slides before a slanted wall."""
    rows, columns = np.mgrid[:size, :size]
    wall = 1500 + 40 * rows + rng.integers(0, 4, (size, size))
    top, left, side = (int(n) for n in [*rng.integers(0, size // 2, 2).tolist(), size // 3])
    shifts = left + np.arange(steps)[:, None, None] % (size - side)
    box = (rows >= top) & (rows < top + side) & (columns >= shifts) & (columns < shifts + side)
    depth = np.where(box, 600 + rng.integers(0, 300), wall)
    return depth.astype(np.uint16)[..., None], box.astype(np.uint8)[..., None]


def make_tokenizer(folder: Path, words: Sequence[str], **more: Mapping[str, int]) -> Path:
    """A folder with a tokenizer.json in the manner of PaliGemma's: four special tokens, newline,
    `words`, and `<image>` as the last one. `more` is what it says of padding and truncation."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    numbers = {word: number for number, word in enumerate([*special, "\n", *words])}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in (*special, "<image>")])
    for name, value in more.items():
        getattr(tokenizer, f"enable_{name}")(**value)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def back_project(
    depth_m: Float[np.ndarray, "H W"],
    intrinsics: Float[np.ndarray, "3 3"],
    to_world: Float[np.ndarray, "4 4"],
) -> Float64[np.ndarray, "H W 3"]:
    """The world's coordinates (m) of every pixel's centre, from depth along the optical axis.

    All of the upright, unmirrored view: axes x right, y down, z forward, centres at +0.5 px.
    """
    v, u = np.indices(depth_m.shape) + 0.5
    rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(intrinsics).T
    return (rays * depth_m[..., None]) @ to_world[:3, :3].T + to_world[:3, 3]


def support_plane(
    points: Float[np.ndarray, "n 3"], within_m: float = 0.005, tries: int = 200
) -> tuple[Float64[np.ndarray, " 3"], Float64[np.ndarray, " n"]]:
    """Unit normal of the plane that most points lie on, `within_m` of it, and the signed distance
    of every point from it (m): RANSAC, then least squares over the points that lie on it."""
    rng, best = np.random.default_rng(0), np.zeros(len(points), bool)
    for a, b, c in points[rng.integers(len(points), size=(tries, 3))]:
        normal = np.cross(b - a, c - a)
        on = np.abs((points - a) @ normal) <= within_m * np.linalg.norm(normal)
        if on.sum() > best.sum() and normal.any():
            best = on
    centre = points[best].mean(axis=0)
    normal = np.linalg.svd(points[best] - centre, full_matrices=False)[2][-1]
    return normal, (points - centre) @ normal


def tree_digest(path: Path) -> dict[str, str]:
    """SHA-256 of every file under `path`, by relative path. Leftovers of runs do not count, nor
    what a store remembers of the times of its source's files and of the speed of its runs."""
    files = (file.relative_to(path) for file in sorted(Path(path).rglob("*")) if file.is_file())
    return {
        file.as_posix(): file_sha256(path / file)
        for file in files
        if not any(part.startswith(TEMPORARY) for part in file.parts)
        and file.name not in (SEEN, SPEED)
    }


def temporaries(path: Path) -> list[Path]:
    """What interrupted writers left under `path`."""
    return sorted(Path(path).rglob(f"{TEMPORARY}*"))


@dataclass(frozen=True)
class Damage:
    """One way to spoil a directory: what was done to which file (relative paths)."""

    kind: str  # "flip", "cut", "grow", "delete", "swap"
    file: str
    other: str = ""  # of a swap
    position: float = 0.0  # of a flip or cut, as a share of the file

    def apply(self, root: Path) -> None:
        """Does it."""
        path = root / self.file
        if self.kind == "delete":
            path.unlink()
            return
        if self.kind == "swap":
            data = path.read_bytes()
            shutil.copyfile(root / self.other, path)
            (root / self.other).write_bytes(data)
            return
        content = bytearray(path.read_bytes())
        offset = int(self.position * len(content))
        if self.kind == "flip":
            content[offset] ^= 1 << hashlib.sha256(self.file.encode()).digest()[0] % 8
        path.write_bytes({"cut": content[:offset], "grow": content + b"\0"}.get(self.kind, content))


@dataclass(frozen=True)
class Interrupted:
    """How a process that was sent a signal ended. Done in time, it has exit code 0."""

    exit_code: int  # of a process that dies of a signal: -number
    seconds: float  # from the signal to the end
    traceback: str  # of what it raised, except `Stopped`


def interrupt(
    work: Callable, args: tuple, *, signum: int | None, delay: float, preload: Sequence[str] = ()
) -> Interrupted:
    """Runs `work(*args)` in a fresh process, and sends it `signum` `delay` seconds after its start.

    The process is forked from one that has imported `preload` and nothing else has touched, so
    that a round takes no longer than its work. A process that stops for a signal (`stoppable`)
    ends as the command line does, with 128 + number.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, work, args))
    process.start()
    assert process.pid is not None, "a process that has started has a number"
    sender.close()
    receiver.recv()
    process.join(delay)
    sent = time.monotonic()
    if signum is not None and process.is_alive():
        with suppress(ProcessLookupError):  # it has just ended by itself
            os.kill(process.pid, signum)
    process.join()
    seconds, code = time.monotonic() - sent, process.exitcode
    assert code is not None, "a process that was waited for has ended"
    process.close()
    with receiver:
        try:
            error = receiver.recv()
        except EOFError:  # it raised nothing
            error = ""
    return Interrupted(code, seconds, error)


def _work(sender: Connection, work: Callable, args: tuple) -> None:
    for number in NUMBERS:  # a signal that comes when the work is done is nobody's
        signal.signal(number, signal.SIG_IGN)
    with Path(os.devnull).open("w") as quiet:
        sys.stderr = quiet
        try:
            with stoppable():
                sender.send("ready")
                work(*args)
        except Stopped as stop:
            sys.exit(128 + stop.signum)
        except Exception:  # whatever it is, the test that asked for this run is to see it
            sender.send(traceback.format_exc())
            sys.exit(1)


def damages(root: Path, *, seed: int, count: int) -> list[Damage]:
    """`count` damages of the files under `root`, drawn with `seed`; equal files are not swapped."""
    rng = np.random.default_rng(seed)
    digests = tree_digest(root)
    sizes = {name: (root / name).stat().st_size for name in digests}
    drawn: list[Damage] = []
    while len(drawn) < count:
        kind = rng.choice(["flip", "cut", "grow", "delete", "swap"]).item()
        file, other = rng.choice(sorted(digests), 2).tolist()
        if kind == "swap" and digests[file] == digests[other]:
            continue
        if kind in ("flip", "cut") and sizes[file] == 0:
            continue
        drawn.append(Damage(kind, file, other if kind == "swap" else "", float(rng.random())))
    return drawn
