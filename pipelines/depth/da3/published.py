"""Published checkpoints of Depth Anything 3: location, file and licence. Standard library only."""

from __future__ import annotations

from pipelines.depth.vida.published import APACHE, Published


def _published(repo: str) -> Published:
    return Published(f"depth-anything/{repo}", "model.safetensors", APACHE, 0, "")


PUBLISHED = {
    "da3-mono-large": _published("DA3MONO-LARGE"),
    "da3-metric-large": _published("DA3METRIC-LARGE"),
    "da3-small": _published("DA3-SMALL"),
    "da3-base": _published("DA3-BASE"),
}
"""No size or hash is known: what the files hold is checked by the names of their tensors, and what
was fetched, commit and SHA-256, is said and recorded in the store."""
