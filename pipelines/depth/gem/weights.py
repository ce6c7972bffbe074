"""GemDepth's checkpoints: strict loading of what of them is used."""

from __future__ import annotations

from pathlib import Path

import torch

from depthtok.errors import WeightsError
from pipelines.depth.gem.config import WITHOUT_POSES, GemConfig
from pipelines.depth.gem.network import GemDepth
from pipelines.depth.gem.published import PUBLISHED
from pipelines.depth.gem.tensors import POSE, used
from pipelines.depth.origin import SHAPES, WeightsOrigin, by_card, by_metadata
from pipelines.depth.vida.weights import read_weights, require_tensors, weights_hash


def load_network(config: GemConfig, path: Path) -> GemDepth:
    """The network with a checkpoint's weights, float32. Raises `WeightsError` for a mismatch.

    Tensors without effect are dropped by name, and may be missing; every other one must be there,
    and no more.
    """
    read = read_weights(path)
    state = {name: read[name] for name in used(read, config)}
    with torch.device("meta"):
        network = GemDepth(config)
    expected = network.state_dict()
    missing = expected.keys() - state.keys()
    if missing and config.pose and missing == set(filter(POSE.match, expected)):
        raise WeightsError(
            f"{path} holds weights of {config.name} that predict no poses",
            remedy=f"use them without: --set pose={WITHOUT_POSES}",
        )
    require_tensors(state, expected, path, config.name, whole=read)
    network.load_state_dict({k: v.float() for k, v in state.items()}, assign=True)
    network.origin = _origin(config, path, network)
    return network.eval()


def _origin(config: GemConfig, path: Path, network: GemDepth) -> WeightsOrigin:
    """No other network has tensors of these names. Where the file is from, its place in the Hub's
    cache says, what `finetune-depth` wrote, or the name that it was published by."""
    networks = (config.name,)
    repository, snapshots, revision = ("", "", "", *path.absolute().parts)[-4:-1]
    if repository.startswith("models--") and snapshots == "snapshots":
        return WeightsOrigin(networks, f"{SHAPES}, of revision {revision}")
    if said := by_metadata(path, networks):
        return said
    card = by_card(path, lambda: weights_hash(network), networks)
    published = PUBLISHED.get(config.name)
    if not card.networks and published and path.name.lower() == published.file:
        return WeightsOrigin(networks, f"its name {path.name}")
    return card if card.networks else WeightsOrigin(networks, SHAPES)
