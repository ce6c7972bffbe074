"""Published checkpoints: location, file and licence. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SHIPPED = Path(__file__).parent / "demo"
APACHE, NON_COMMERCIAL, DEMO = "Apache-2.0", "CC-BY-NC-4.0", "Apache-2.0"


@dataclass(frozen=True)
class Published:
    """A checkpoint on the Hugging Face Hub."""

    repo: str
    file: str
    licence: str

    @property
    def url(self) -> str:
        return f"https://huggingface.co/{self.repo}/resolve/main/{self.file}"


def _published(size: str, letter: str, licence: str) -> dict[str, Published]:
    repo, file = f"Video-Depth-Anything-{size}", f"video_depth_anything_vit{letter}.pth"
    return {
        f"vit{letter}": Published(f"depth-anything/{repo}", file, licence),
        f"metric-vit{letter}": Published(
            f"depth-anything/Metric-{repo}", f"metric_{file}", licence
        ),
    }


PUBLISHED: dict[str, Published] = {
    **_published("Small", "s", APACHE),
    **_published("Base", "b", NON_COMMERCIAL),
    **_published("Large", "l", NON_COMMERCIAL),
}


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


def shipped_or_cached(name: str, cache: Path) -> Path | None:
    """A network's weights, from the package or a Hub cache; None if they are in neither."""
    shipped = SHIPPED / f"{name}.safetensors"
    if shipped.is_file():
        return shipped
    if name not in PUBLISHED:
        return None
    repository = cache / f"models--{PUBLISHED[name].repo.replace('/', '--')}"
    return next(repository.glob(f"snapshots/*/{PUBLISHED[name].file}"), None)
