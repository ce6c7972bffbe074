"""Checkpoints: finding, reading and hashing them.

Official `.pth` files are read with `weights_only=True` (no code in them is run); `.safetensors`
files with the same tensor names are supported too. Loading is strict.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from depthtok.data import DepthKind
from depthtok.disk.files import commit_file, with_usual_mode
from depthtok.disk.regular import require_file
from depthtok.disk.tensors import save_tensors
from depthtok.errors import MissingPackage, WeightsError, WeightsNotHere
from depthtok.installation import hub_cache
from pipelines.depth.fetched import require_known
from pipelines.depth.fitting import fitting
from pipelines.depth.here import may_fetch
from pipelines.depth.origin import by_card, origin_of
from pipelines.depth.vida.config import CONFIGS, ViDAConfig
from pipelines.depth.vida.network import VideoDepth
from pipelines.depth.vida.published import PUBLISHED, SHIPPED, Published, cached

log = logging.getLogger(__name__)

WITHOUT = "To try the commands without: --estimator tiny, a demo's network that ships"
REACH = 5.0  # s, timeout of the first connection


def find_weights(
    name: str, path: Path | None = None, published: Mapping[str, Published] = PUBLISHED
) -> Path:
    """The file with a network's weights; `published` are those that can be downloaded.

    `path` if given; else from the package, the Hub's cache, or a download. Raises a `WeightsError`
    that says which file to get, where from, and where to put it.
    """
    if path is not None:
        require_file(path)
        if not path.is_file():
            raise WeightsError(f"there is no file {path}", remedy=by_hand(published.get(name)))
        return path
    shipped = SHIPPED / f"{name}.safetensors"
    if shipped.is_file():
        return shipped
    if name not in published:
        raise WeightsError(
            f"there are no published weights of {name}", remedy="give your own with --weights PATH"
        )
    return from_hub(name, published[name])


def from_hub(name: str, published: Published) -> Path:
    """A published file, from the Hub's cache or a download, with the bytes that are known to be
    its own. Raises `WeightsError`; `WeightsNotHere` where nothing may be fetched."""
    cache = hub_cache(os.environ)
    if (path := cached(published, cache)) is not None:
        require_known(name, published, path, fresh=False)
        return path
    if not may_fetch():
        raise WeightsNotHere(f"no weights of {name} here", remedy=by_hand(published))
    try:
        from huggingface_hub import hf_hub_download, hf_hub_url
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError:
        raise MissingPackage(
            f"downloading the weights of {name} needs the package `huggingface_hub`",
            remedy=f"pip install 'depthtok[hf]', or {by_hand(published)}. {WITHOUT}",
        ) from None
    wanted, at = (published.repo, published.file), published.revision
    log.info("downloading %s", published.url)
    server = os.environ.get("HF_ENDPOINT") or None
    try:
        _reach(hf_hub_url(*wanted, revision=at, endpoint=server))
        path = Path(hf_hub_download(*wanted, revision=at, endpoint=server, cache_dir=cache))
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise WeightsError(
            f"the weights of {name} are not in the Hub cache and cannot be downloaded "
            f"({type(error).__name__})",
            remedy=f"{by_hand(published)}. {WITHOUT}",
        ) from error
    require_known(name, published, path, fresh=True)
    return path


def _reach(url: str) -> None:
    """Tries once to reach a server. Raises `OSError` immediately, where the Hub's library would
    retry for half a minute."""
    with suppress(HTTPError):  # any answer will do: the download reports errors better
        urlopen(Request(url, method="HEAD"), timeout=REACH).close()


def by_hand(published: Published | None) -> str:
    """How to get a file to a machine that is not online."""
    if published is None:
        return "give the path of a .pth or .safetensors file with --weights"
    return (
        f"get {published.file} from {published.url} on a machine that is online, "
        f"copy it to this one, and give its path with --weights"
    )


def read_weights(path: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint, on the CPU. Raises `WeightsError` for any other file."""
    require_file(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise WeightsError(
            f"{path} cannot be read as a checkpoint: {str(error).splitlines()[0]}",
            remedy="check that the download is complete; a .pth file may only contain tensors",
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(
            f"{path} is not a plain dictionary of tensors",
            remedy="save `model.state_dict()`, not the model or a training checkpoint",
        )
    return state


def load_network(config: ViDAConfig, path: Path, *, any_kind: bool = False) -> VideoDepth:
    """The network with a checkpoint's weights, float32, and its `origin`.

    Raises `WeightsError` for a mismatch, or where the file says that it is of another network. With
    `any_kind` metric weights may go into a relative network and the reverse, to train on from.
    """
    origin = origin_of(path)
    origin.require(config.name, path, any_kind=any_kind)
    state = read_weights(path)
    with torch.device("meta"):
        network = VideoDepth(config)
    require_tensors(state, network.state_dict(), path, config.name)
    network.load_state_dict({k: v.float() for k, v in state.items()}, assign=True)
    if not origin.networks:
        origin = by_card(path, lambda: weights_hash(network))
        origin.require(config.name, path, any_kind=any_kind)
    network.origin = origin
    return network.eval()


def require_tensors(
    state: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    path: Path,
    name: str,
    whole: Mapping[str, Tensor] | None = None,
) -> None:
    """Raises `WeightsError` unless a file has the tensors that the network `name` expects. `whole`:
    all that it has, where `state` is what is used of it."""
    if shown := mismatch(state, expected):
        fits = fitting(state if whole is None else whole)
        raise WeightsError(
            f"{path} does not match {name}: {shown}",
            remedy=f"its tensors are those of {' and '.join(fits)}: give that --estimator (a "
            "relative and a metric network have the same tensors: see where the file is from)"
            if fits
            else f"it fits no estimator: give a checkpoint of {', '.join(CONFIGS)}",
        )


def mismatch(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """How the names and shapes of a file's tensors differ from those expected; "" if they do
    not."""
    faults = [
        f"{key} is {list(state[key].shape)}, not {list(expected[key].shape)}"
        for key in sorted(expected.keys() & state.keys())
        if state[key].shape != expected[key].shape
    ]
    faults += [f"missing {key}" for key in sorted(expected.keys() - state.keys())]
    faults += [f"unknown {key}" for key in sorted(state.keys() - expected.keys())]
    return "; ".join(faults[:3]) + (f"; and {len(faults) - 3} more" if faults[3:] else "")


def save_network(network: VideoDepth, path: Path, *, dtype: torch.dtype = torch.float32) -> None:
    """Writes weights as `.safetensors`, atomically."""
    save_weights(network.state_dict(), network.config.name, path, dtype)


def save_weights(
    state: Mapping[str, Tensor],
    name: str,
    path: Path,
    dtype: torch.dtype,
    kind: DepthKind | None = None,
) -> None:
    """Writes the tensors of the network `name` as `.safetensors`, atomically; those of floating
    point as `dtype`. `kind` is that of its depth, where the name does not tell it."""
    metadata = {"network": name} | ({"kind": str(kind)} if kind else {})
    plain = {
        key: value.detach().cpu().to(dtype if value.is_floating_point() else value.dtype)
        for key, value in state.items()
    }
    with commit_file(path) as partial:
        save_tensors(plain, partial, metadata=metadata)
        with_usual_mode(partial)


def weights_hash(network: nn.Module) -> str:
    """SHA-256 of the network's tensors as float32: the same for `.pth` and `.safetensors`."""
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        digest.update(json.dumps([key, list(value.shape)]).encode())
        digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()
