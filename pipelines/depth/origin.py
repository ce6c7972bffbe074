"""Which network a file of weights belongs to, from its hash, metadata and name.

A relative and a metric network have the same tensors, and the wrong one gives inverted depth
without any error. What tells them apart, the strongest first:

1. the hash of a published file, whatever its name (only files of exactly its size are hashed);
2. the file's metadata, or the card beside it with the hash of these tensors: both are written by
   `finetune-depth`;
3. a published name in the name of the file, or of a folder that it lies in, in any case.

Where none of these says it, the origin is recorded as unknown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from depthtok.disk.digests import file_sha256
from depthtok.errors import WeightsError
from pipelines.depth.vida.config import CONFIGS
from pipelines.depth.vida.published import PUBLISHED

_WORDS = r"video[-_. ]*depth[-_. ]*anything"
_SIZE = r"[-_. ]*(?:vit[-_. ]?)?(s|b|l|small|base|large)(?![a-z])"
_METRIC = r"(?<![a-z])(metric)(?![a-z])"
UNKNOWN = "unknown: nothing in the file says which network it is of"
SHAPES = "the names and shapes of its tensors"
"""How a file's network is known where no other has such tensors: that says nothing of where the
weights are from, and random ones have them too."""


@dataclass(frozen=True)
class WeightsOrigin:
    """The networks that a file may be of, and how that is known; none and "" where it is not."""

    networks: tuple[str, ...] = ()
    known_by: str = ""

    def __str__(self) -> str:
        return f"{' or '.join(self.networks)}, by {self.known_by}" if self.networks else UNKNOWN

    def require(self, network: str, path: Path, *, any_kind: bool = False) -> None:
        """Raises `WeightsError` where the file says that it is of another network. With `any_kind`
        a relative network may start from metric weights, and the reverse."""
        names = [_size(name) for name in self.networks] if any_kind else self.networks
        if names and (_size(network) if any_kind else network) not in names:
            raise WeightsError(
                f"{path} holds weights of {' or '.join(self.networks)} (by {self.known_by}), not "
                f"of {network}{_harm(network, self.networks)}",
                remedy=f"give --estimator {self.networks[0]}, or the weights of {network}; a file "
                "that is named after another one must be renamed",
            )


def _size(network: str) -> str:
    return network.removeprefix("metric-")


def _harm(network: str, networks: tuple[str, ...]) -> str:
    if any(CONFIGS[name].metric == CONFIGS[network].metric for name in networks):
        return ""
    return ": near and far would be swapped"


def origin_of(path: Path) -> WeightsOrigin:
    """What a file says, without reading its tensors."""
    return _by_hash(path) or by_metadata(path) or _by_name(path) or WeightsOrigin()


def by_card(
    path: Path, tensors_hash: Callable[[], str], known: Collection[str] = tuple(CONFIGS)
) -> WeightsOrigin:
    """What the card beside a file says, if it is of exactly these tensors and names a `known`
    network."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        card = json.loads(path.with_suffix(".json").read_bytes())
        name, digest = str(card["name"]), card["weights_sha256"]
        if name in known and digest == tensors_hash():
            return WeightsOrigin((name,), "the card beside it")
    return WeightsOrigin()


def _by_hash(path: Path) -> WeightsOrigin | None:
    size = path.stat().st_size
    for name, published in PUBLISHED.items():
        if published.bytes == size and published.sha256 == file_sha256(path):
            return WeightsOrigin((name,), f"the hash of {published.file}")
    return None


def by_metadata(path: Path, known: Collection[str] = tuple(CONFIGS)) -> WeightsOrigin | None:
    """What the metadata of a file say, if they name a `known` network."""
    name = metadata_of(path).get("network", "")
    return WeightsOrigin((name,), "its metadata") if name in known else None


def metadata_of(path: Path) -> dict[str, str]:
    """What a .safetensors file says of itself; {} for none, or another file."""
    if path.suffix == ".safetensors":
        with suppress(SafetensorError, OSError), safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    return {}


def _by_name(path: Path) -> WeightsOrigin | None:
    """A published name in the file's name, else in a folder's that also says the size: a clone of
    the official repository is called Video-Depth-Anything, too. A link counts as what it leads
    to where its own name says nothing."""
    for file in dict.fromkeys((path.absolute(), path.resolve())):
        if names := _published(file.stem):
            return WeightsOrigin(names, f"its name {file.name}")
        for folder in file.parents:
            if re.search(_WORDS + _SIZE, folder.name.lower()) and (
                names := _published(folder.name)
            ):
                return WeightsOrigin(names, f"the folder {folder.name}")
    return None


def _published(text: str) -> tuple[str, ...]:
    """The networks that a name speaks of; none if it has no published name in it."""
    text = text.lower()
    size = re.search(_WORDS + _SIZE, text)
    metric = bool(re.search(_METRIC, text.replace("_", " ")))
    if not re.search(_WORDS, text) or not (size or metric):
        return ()
    return tuple(
        name
        for name in PUBLISHED
        if name.startswith("metric-") == metric
        and (size is None or _size(name) == f"vit{size[1][0]}")
    )
