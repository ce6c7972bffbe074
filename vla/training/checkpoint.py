"""Checkpoints: directories written atomically, without pickle, sufficient to act or to resume.

RUN/config.json                  every setting
RUN/metrics.jsonl                one line per log point; metrics.sums: digests of its lines
RUN/validation.jsonl             figures of each held-out episode, one line per validation; .sums
RUN/best/                        a checkpoint without the optimiser: the lowest action error
RUN/checkpoints/step-000200/
    model.safetensors            weights, including the codebook
    average.safetensors          their moving average, if enabled
    optimizer.safetensors        AdamW's two moments; if 8-bit: codes, scale, qmap
    tokenizer.json               if the tokenizer is a file
    config.json                  every setting
    state.json                   step, data sets, what their numbers mean, which way up their
                                 pictures are, normalisation, codebook fingerprint; digests of
                                 the other files, and its own; what the run's other files were
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from depthtok.config import digest
from depthtok.disk.digests import file_sha256
from depthtok.disk.files import commit_directory, remove, with_usual_mode
from depthtok.disk.json_files import read_json_object
from depthtok.disk.regular import listed, require_given
from depthtok.disk.temporaries import sweep
from depthtok.disk.tensors import save_tensors
from depthtok.errors import ConfigError, CorruptPart, WeightsError
from depthtok.meaning import Meaning
from depthtok.orientation import Orientation
from depthtok.remote.snapshots import here
from vla.config import Config
from vla.data import tokenizer
from vla.data.normalise import Norms
from vla.evaluation.depth_view import FILE as PREDICTED

BEST, CONFIG, STATE = "best", "config.json", "state.json"
AVERAGE = "average.safetensors"
FORMAT = 2  # of state.json; in the weights' metadata, too, because older ones had no digests


@dataclass(frozen=True)
class TrainingState:
    """What a checkpoint stores besides its tensors."""

    step: int  # updates completed
    norms: Mapping[str, Norms]  # by data set
    codebook: str = ""  # fingerprint
    data: Any = None  # training data: names, fingerprints, sizes
    notes: Mapping[str, Any] | None = None  # the caller's notes: overridden gates, versions
    meanings: Mapping[str, Meaning] = field(default_factory=dict)  # by data set; before: none
    orientations: Mapping[str, Mapping[str, Orientation]] = field(default_factory=dict)
    """Of the pictures that it learnt from, by data set and the model's cameras; before: none."""

    def to_json(self) -> dict:
        norms, meanings = (
            {name: value.to_json() for name, value in values.items()}
            for values in (self.norms, self.meanings)
        )
        return {**vars(self), "norms": norms, "meanings": meanings}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrainingState:
        norms = {name: Norms.from_json(norm) for name, norm in data["norms"].items()}
        stored = data.get("meanings", {}).items()
        meanings = {name: Meaning.from_json(meaning) for name, meaning in stored}
        orientations = {
            name: {camera: Orientation(way) for camera, way in ways.items()}
            for name, ways in data.get("orientations", {}).items()
        }
        read = {"norms": norms, "meanings": meanings, "orientations": orientations}
        return cls(**{**data, **read})


def place(run: Path, step: int) -> Path:
    """The path of a step's checkpoint."""
    return run / "checkpoints" / f"step-{step:06d}"


def write(
    final: Path,
    config: Config,
    state: TrainingState,
    tensors: Mapping[str, Mapping[str, Tensor]],
    words: bytes | None = None,
    beside: Mapping[str, Any] | None = None,
) -> None:
    """Writes a checkpoint, atomically replacing what was there.

    `tensors` holds those of `model`, `optimizer` and, if enabled, `average`, by name; `words` is
    the content of the tokenizer's file. `beside` says what the run's other files are
    (`vla.training.soundness`).
    """
    with commit_directory(final, replace=True) as folder:
        for kind, named in tensors.items():
            path = folder / f"{kind}.safetensors"
            contiguous = {name: tensor.detach().contiguous() for name, tensor in named.items()}
            save_tensors(contiguous, path, {_MARK: str(FORMAT)})
            with_usual_mode(path)
        if words is not None:
            (folder / tokenizer.FILE).write_bytes(words)
        (folder / CONFIG).write_text(json.dumps(config.to_json(), indent=1))
        about = {"format": FORMAT, "beside": dict(beside or {})}
        content = {**state.to_json(), **about, "files": _digests(folder)}
        described = {**content, "digest": digest(content)}
        (folder / STATE).write_text(json.dumps(described, indent=1))


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file; in parallel, because large files take seconds each."""
    files = sorted(folder.iterdir())
    with ThreadPoolExecutor(max_workers=4) as pool:
        return dict(zip((file.name for file in files), pool.map(file_sha256, files), strict=True))


def clear(run: Path, *, everything: bool) -> None:
    """Removes what killed writers left in a run's directory, or `everything` of the run."""
    sweep(run)
    sweep(run / "checkpoints")
    if everything:
        for name in ("checkpoints", BEST, PREDICTED):
            remove(run / name)


def prune(run: Path, keep_last: int) -> None:
    """Deletes all but the newest `keep_last` checkpoints."""
    for old in steps(run)[:-keep_last]:
        remove(old)


def newest_step(run: Path) -> int:
    """The step that a run would resume from; 0 if there is no checkpoint."""
    paths = steps(run)
    return int(paths[-1].name[5:]) if paths else 0


def steps(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    paths = (path for path in listed(run / "checkpoints", "step-*") if path.name[5:].isdigit())
    return sorted(paths, key=lambda path: int(path.name[5:]))


def find(path: str | Path) -> Path:
    """The checkpoint at `path`, or the newest one of the run there; `path` may be a run on the Hub
    (hf://OWNER/NAME). Raises `WeightsError`, and `SourceUnavailable` where it cannot be fetched."""
    path = here(path)
    if (path / STATE).is_file():
        return path
    paths = steps(path)
    if not paths:
        raise WeightsError(
            f"{path} has no checkpoint", remedy="name a run made by `depthtok train-vla`"
        )
    return paths[-1]


def read_tokenizer(checkpoint: Path) -> tokenizer.Tokenizer:
    """The tokenizer stored in the checkpoint, or the one that its settings name."""
    if has(checkpoint, tokenizer.FILE):
        return tokenizer.load(str(sound(checkpoint, tokenizer.FILE)))
    config = read_config(checkpoint)
    return tokenizer.load(config.data.tokenizer, config.model.vocabulary)


def weights_sha256(checkpoint: Path) -> dict[str, str]:
    """Digests of the weight files, which identify the weights used for acting."""
    paths = (checkpoint / f"{name}.safetensors" for name in ("average", "model"))
    return {path.name: file_sha256(path) for path in paths if path.is_file()}


def read_config(checkpoint: Path) -> Config:
    """The settings. Raises `WeightsError`, and `CorruptPart` for files changed after writing, as
    all readers here do."""
    return Config.from_json(read_json_object(sound(checkpoint, CONFIG), _DAMAGED))


def read_state(checkpoint: Path) -> TrainingState:
    """The state. Raises `WeightsError` and `CorruptPart`, as all readers here do."""
    about = described(checkpoint)
    try:
        state = TrainingState.from_json({k: v for k, v in about.items() if k not in _OURS})
        _require_types(state)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = f"{checkpoint / STATE} holds no state: {error!r}"
        raise CorruptPart(problem, remedy=_DAMAGED) from error
    return state


def _require_types(state: TrainingState) -> None:
    """Raises `TypeError` or `ValueError` for a state that was not written by `write`."""
    for value, kind in ((state.step, int), (state.codebook, str), (state.notes or {}, Mapping)):
        if not isinstance(value, kind):
            raise TypeError(f"{value!r} is no {kind.__name__}")
    for name, key, weight, size, *_ in state.data or ():
        if not (isinstance(name, str) and isinstance(key, str)):
            raise TypeError(f"{name!r} and {key!r} name no data")
        float(weight), int(size)


def described(checkpoint: Path) -> dict[str, Any]:
    """state.json, verified. Its `files` is empty in checkpoints of older versions that had no
    digests, its `beside` in those that did not note what else was there. Raises `WeightsError`
    where it is missing or of a newer format, `CorruptPart` where it was changed."""
    path = checkpoint / STATE
    if not path.is_file():
        raise WeightsError(f"{path} is missing", remedy=_DAMAGED)
    content = read_json_object(path, _DAMAGED)
    changed = CorruptPart(f"{path} was changed after it was written", remedy=_DAMAGED)
    claimed, version = content.pop("digest", None), content.get("format", 1)
    if claimed is None and not _is_of_old(checkpoint, content):
        raise changed
    try:
        same = claimed in (None, digest(content))
    except ConfigError as error:  # it has no digest
        raise changed from error
    if not same:
        raise changed
    if version not in (1, FORMAT):
        raise WeightsError(
            f"{path} has format {version}, this depthtok reads {FORMAT}",
            remedy="use the version of depthtok that wrote it, or a newer one",
        )
    about = {"format": 1, "beside": {}, "files": {}, **content}
    if not all(isinstance(about[name], dict) for name in ("beside", "files")):
        raise changed
    return about


def _is_of_old(checkpoint: Path, content: Mapping[str, Any]) -> bool:
    """Whether a state without a digest is of a version that wrote none, neither there nor into the
    weights."""
    if content.get("files") or "format" in content:
        return False
    try:
        with safe_open(checkpoint / "model.safetensors", "pt") as weights:
            return _MARK not in (weights.metadata() or {})
    except (OSError, SafetensorError):
        return False


def has(checkpoint: Path, name: str) -> bool:
    """Whether a checkpoint was written with this file, which may be lost since; of older versions,
    which had no digests, whether it is there."""
    files = described(checkpoint)["files"]
    return name in files if files else (checkpoint / name).is_file()


def sound(checkpoint: Path, name: str) -> Path:
    """The path of a checkpoint's file, after verifying its digest. Raises `WeightsError` where it
    is missing, `CorruptPart` where it was changed."""
    path, files = checkpoint / name, described(checkpoint)["files"]
    if files and not path.is_file():
        raise WeightsError(f"{path} is missing", remedy=_DAMAGED)
    if files and file_sha256(path) != files.get(name):
        raise CorruptPart(f"{path} is not the file that was written", remedy=_DAMAGED)
    return path


_MARK = "depthtok"  # in the weights' metadata: the format of the checkpoint they were written with
_OURS = ("format", "beside", "files")  # of state.json, besides the state
_DAMAGED = "the checkpoint is damaged: use an older one of the same run"


def read_tensors(checkpoint: Path, name: str, device: str = "cpu") -> dict[str, Tensor]:
    """The tensors of one file: `model`, `optimizer` or `average`. Raises `WeightsError` for what
    cannot be read."""
    path = sound(checkpoint, f"{name}.safetensors")
    try:
        return load_file(path, device=device)
    except (OSError, SafetensorError, KeyError, RuntimeError, TypeError, ValueError) as error:
        require_given(path, error)
        raise WeightsError(f"{path} cannot be read: {error}", remedy=_DAMAGED) from error
