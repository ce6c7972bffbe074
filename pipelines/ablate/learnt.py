"""What a training learnt from, besides its settings, as plain values that no place decides.

What lies here is known by a digest of its content. What does not (at a URL, on the Hub, or gone, as
where the files of the seeds are all that there is) has but its name, and two names are compared, or
two contents. `partial` and `force` only allow a training, and how it runs changes nothing that is
learnt: they are left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from depthtok.config import digest, to_json
from depthtok.copies.copying import required
from depthtok.errors import DepthtokError
from depthtok.remote.location import Location, is_remote, located
from depthtok.stores.codebook import Codebook
from depthtok.stores.store import Store
from pipelines.train_vla.inputs import Stores
from vla.config import Config
from vla.mixtures import Mixture

ENDS = 1 << 20  # bytes of a foreign file of weights that are read at either end


def learnt(
    config: Config, stores: Stores, weights: str | None, camera: Sequence[str] | None
) -> dict[str, object]:
    """What a training with these arguments learns from now; of stores only those that it reads."""
    depth = config.model.depth
    decodes = depth.uses_depth and (depth.target == "pixels" or config.data.crop < 1)
    codes = stores.codes if depth.uses_depth and not decodes else ()
    return {
        "episodes": [_named(path, _of_store) for path in stores.episodes],
        "codes": [_named(path, _of_store) for path in codes],  # they name their codebook
        "depth": [_named(path, _of_store) for path in (stores.depth if decodes else ())],
        "codebook": _named(stores.codebook if decodes else None, _of_codebook),
        "weights": _named(weights, _of_weights),
        "mixture": _named(stores.mixture, _of_mixture),
        "sampling_weight": to_json(stores.sampling_weight),
        "held_out": stores.held_out,
        "camera": list(camera or ()),
    }


def differences(then: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """The names of what is another thing, as far as that can be said."""
    return [name for name in then if name in now and _differ(then[name], now[name])]


def _differ(then: object, now: object) -> bool:
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        return any(then[name] != now[name] for name in then.keys() & now.keys())
    if isinstance(then, list) and isinstance(now, list):
        return len(then) != len(now) or any(map(_differ, then, now))
    return then != now


def _named(path: str | Path | None, content: Callable[[str], str]) -> dict[str, str] | None:
    """What lies at a path: its content, or its name where it does not lie here; None for none."""
    if not path:
        return None
    if not is_remote(path) or str(path).startswith("file:"):  # else it would be fetched
        with suppress(DepthtokError, OSError):
            return {"content": content(str(path))}
    return {"name": str(path)}


def _of_store(path: str) -> str:
    if isinstance(packed := located(path), Location):
        return digest([part.digest for _, part in sorted(required(packed).parts.items())])
    return Store(path).content


def _of_codebook(path: str) -> str:
    return Codebook.load(path).fingerprint


def _of_mixture(name: str) -> str:
    mixture = Mixture.load(name)
    return digest([mixture.camera, mixture.datasets])


def _of_weights(name: str) -> str:
    """Of a run of ours its weights; of other files name, size and both ends, as all of them may be
    many GB. Raises `OSError` where there is neither."""
    from vla.training import checkpoint

    path = Path(name)
    with suppress(DepthtokError):
        newest = checkpoint.find(path)
        files = checkpoint.described(newest)["files"] or checkpoint.weights_sha256(newest)
        weights = ("model.safetensors", checkpoint.AVERAGE)
        return digest({name: files[name] for name in weights if name in files})
    paths = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    return digest([_ends(file) for file in paths])


def _ends(path: Path) -> list[object]:
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(ENDS)
        file.seek(max(size - ENDS, 0))
        return [path.name, size, hashlib.sha256(first + file.read()).hexdigest()]
