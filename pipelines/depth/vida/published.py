"""Published checkpoints: location, file and licence. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SHIPPED = Path(__file__).parent / "demo"
APACHE, NON_COMMERCIAL, DEMO = "Apache-2.0", "CC-BY-NC-4.0", "Apache-2.0"


@dataclass(frozen=True)
class Published:
    """A checkpoint on the Hugging Face Hub: size and SHA-256 are those of the file, 0 and "" where
    they are not known."""

    repo: str
    file: str
    licence: str
    bytes: int
    sha256: str
    revision: str = "main"  # a commit, where it is known; the hash pins the file without one

    @property
    def url(self) -> str:
        return f"https://huggingface.co/{self.repo}/resolve/{self.revision}/{self.file}"


def _published(name: str, size: int, sha256: str) -> Published:
    letter = name[-1]
    size_name = {"s": "Small", "b": "Base", "l": "Large"}[letter]
    repo, file = f"Video-Depth-Anything-{size_name}", f"video_depth_anything_vit{letter}.pth"
    if name.startswith("metric-"):
        repo, file = f"Metric-{repo}", f"metric_{file}"
    licence = APACHE if letter == "s" else NON_COMMERCIAL
    return Published(f"depth-anything/{repo}", file, licence, size, sha256)


_FILES = (
    ("vits", 116440756, "13379300b739e659f076a59d52e9801bd8d38c541a7e71f73bbca4dcfb013609"),
    ("metric-vits", 116444063, "3c28432b4e1f0d7bb31cad5151b6313b49457db5aa58d82e85bfb0f8b1311b33"),
    ("vitb", 458247082, "775e578e8f9431ec0496514aa466bd0a1f67c28d0f518267809f35a43c04329b"),
    ("metric-vitb", 458249567, "f6f58576b9680a112f2428d4f39aff92656d3ae85745b0164675ace8d5b1fade"),
    ("vitl", 1538392012, "43df27c6b396042ba34ff7b798ab279f64d204d2e86d7a373968f8fa36d0e6fa"),
    ("metric-vitl", 1538348216, "24eba25342e7ee0f054be25da6a852ebd7cfa40cd6bf41a353ecb6abfe24e620"),
)
PUBLISHED = {name: _published(name, size, sha256) for name, size, sha256 in _FILES}
"""Sizes and hashes as several public projects that pin these files give them (November 2026)."""


def licence_notice(name: str) -> str:
    """A notice to show once before using weights with a restrictive licence; "" otherwise."""
    published = PUBLISHED.get(name)
    if published is None or published.licence != NON_COMMERCIAL:
        return ""
    return (
        f"The weights of {name} ({published.repo}) are licensed {NON_COMMERCIAL}: depth made with "
        "them, and models trained on it, are not for commercial use. vits is Apache-2.0."
    )


def licence_of(name: str) -> str:
    """The licence of a network's weights."""
    return PUBLISHED[name].licence if name in PUBLISHED else DEMO


def shipped_or_cached(
    name: str, cache: Path, published: Mapping[str, Published] = PUBLISHED
) -> Path | None:
    """A network's weights, from the package or a Hub cache; None if they are in neither."""
    shipped = SHIPPED / f"{name}.safetensors"
    if shipped.is_file():
        return shipped
    return cached(published[name], cache) if name in published else None


def cached(published: Published, cache: Path) -> Path | None:
    """A published file in a Hub cache: of the commit that its revision is there, else of the one
    that was fetched last; None where it is not there."""
    repository = cache / f"models--{published.repo.replace('/', '--')}"
    reference = repository / "refs" / published.revision
    if reference.is_file():
        path = repository / "snapshots" / reference.read_text().strip() / published.file
        if path.is_file():
            return path
    others = sorted(repository.glob(f"snapshots/*/{published.file}"))
    return max(others, key=lambda path: path.parent.stat().st_mtime, default=None)
