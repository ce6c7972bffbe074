"""Checkpoints of Depth Anything 3: reading them strictly, and which network they are of.

The official files have all names behind `model.`. Of the networks for many views only the part is
loaded that depth of one image takes; what is left out is named here, and anything else is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from depthtok.disk.regular import require_file
from depthtok.errors import WeightsError
from pipelines.depth.da3.config import CONFIGS, DA3Config
from pipelines.depth.da3.network import DA3
from pipelines.depth.da3.published import PUBLISHED
from pipelines.depth.origin import SHAPES, WeightsOrigin, by_card, by_metadata
from pipelines.depth.vida.weights import by_hand, from_hub, read_weights, weights_hash

PREFIX = "model."
LEFT_OUT = re.compile(r"cam_enc\..*|cam_dec\..*|head\.scratch\.\w+_aux\..*")
"""Poses and rays of the networks for many views."""
NAMES = {"da3mono": "da3-mono-large", "da3metric": "da3-metric-large"}
VIEWS = {"da3small": "da3-small", "da3base": "da3-base"}
CONFIG_BYTES = 1 << 20  # of a config.json at most


def find_weights(name: str, path: Path | None) -> Path:
    """The file with a network's weights: `path` if given, else from the Hub's cache, or a download.

    Raises a `WeightsError` that says which file to get, where from, and where to put it.
    """
    if path is None:
        return from_hub(name, PUBLISHED[name])
    require_file(path)
    if not path.is_file():
        raise WeightsError(f"there is no file {path}", remedy=by_hand(PUBLISHED.get(name)))
    return path


def load_network(
    config: DA3Config, path: Path, *, any_kind: bool = False
) -> tuple[DA3, WeightsOrigin]:
    """The network with a checkpoint's weights, float32, and what the file says that it is of.

    Raises `WeightsError` for a mismatch, or where the file says that it is of another network. With
    `any_kind` metric weights may go into a mono network and the reverse, to train on from.
    """
    names = {*CONFIGS, config.name}
    origin = by_metadata(path, names) or origin_of(config, path)
    _require(origin, config, path, any_kind=any_kind)
    state = {_plain(key): value for key, value in read_weights(path).items()}
    with torch.device("meta"):
        network = DA3(config)
    wanted = network.state_dict()
    if config.views:
        state = {key: value for key, value in state.items() if not LEFT_OUT.fullmatch(key)}
    _check(state, wanted, path, config.name)
    network.load_state_dict({k: v.float() for k, v in state.items()}, assign=True)
    if origin.known_by in ("", SHAPES):
        card = by_card(path, lambda: weights_hash(network), names)
        _require(card, config, path, any_kind=any_kind)
        origin = card if card.networks else origin
    return network.eval(), origin


def _require(origin: WeightsOrigin, config: DA3Config, path: Path, *, any_kind: bool) -> None:
    if origin.networks and config.name not in origin.networks and not any_kind:
        raise WeightsError(
            f"{path} holds weights of {origin}, not of {config.name}: metres and depth up to scale "
            "would be taken for each other",
            remedy=f"give --estimator {origin.networks[0]}, or the weights of {config.name}",
        )


def _plain(key: str) -> str:
    return key.removeprefix(PREFIX) if key.startswith(PREFIX) else f"without {PREFIX} {key}"


def _check(state: dict[str, Tensor], wanted: dict[str, Tensor], path: Path, name: str) -> None:
    faults = [
        f"{key} is {list(state[key].shape)}, not {list(wanted[key].shape)}"
        for key in sorted(wanted.keys() & state.keys())
        if state[key].shape != wanted[key].shape
    ]
    faults += [f"missing {PREFIX}{key}" for key in sorted(wanted.keys() - state.keys())]
    faults += [f"unknown {key}" for key in sorted(state.keys() - wanted.keys())]
    if faults:
        shown = "; ".join(faults[:3]) + (f"; and {len(faults) - 3} more" if faults[3:] else "")
        raise WeightsError(
            f"{path} does not match {name}: {shown}",
            remedy=f"give a checkpoint of {', '.join(CONFIGS)}, with the --estimator that it is of",
        )


def origin_of(config: DA3Config, path: Path) -> WeightsOrigin:
    """Which network a file is of, by the name of the file or a folder, or a config.json beside it.
    Mono and metric share their shapes, and nothing else tells them apart; small and base have
    shapes of their own, which say nothing of where the weights are from."""
    names = NAMES
    if config.views:
        names = {word: name for word, name in VIEWS.items() if name == config.name}
    for part in (path.stem, *(folder.name for folder in path.absolute().parents)):
        if named := _named(part, names):
            return WeightsOrigin(named, f"the name {part}")
    beside = path.with_name("config.json")
    readable = beside.is_file() and beside.stat().st_size <= CONFIG_BYTES
    if readable and (named := _named(beside.read_text(errors="replace"), names)):
        return WeightsOrigin(named, "the config.json beside it")
    return WeightsOrigin((config.name,), SHAPES) if config.views else WeightsOrigin()


def _named(text: str, names: Mapping[str, str]) -> tuple[str, ...]:
    """The network that a name speaks of, if it speaks of just one."""
    plain = re.sub(r"[^a-z0-9]", "", text.lower())
    said = tuple(network for word, network in names.items() if word in plain)
    return said if len(said) == 1 else ()
