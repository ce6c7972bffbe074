"""GemDepth's published checkpoint, and its licence. Standard library only."""

from __future__ import annotations

from pipelines.depth.vida.published import NON_COMMERCIAL, Published

UNPROVEN = f"unproven; treated as {NON_COMMERCIAL}"
YOURS = "that of your own weights"  # of networks without published ones
PUBLISHED = {
    "gemdepth": Published("YuechengLiu/GemDepth", "gemdepth.pth", UNPROVEN, bytes=0, sha256="")
}
"""Nobody has published the file's size and hash (November 2026): its tensors are loaded strictly,
and their hash is part of every store."""


def licence_of(name: str) -> str:
    """The licence of a network's weights."""
    return PUBLISHED[name].licence if name in PUBLISHED else YOURS


def licence_notice(name: str) -> str:
    """A notice to show once before the weights are used; "" where there is nothing to say."""
    if name not in PUBLISHED:
        return ""
    return (
        f"The licence of the weights of {name} ({PUBLISHED[name].repo}) is not known, and they "
        f"were probably trained on from Video-Depth-Anything Large, which is {NON_COMMERCIAL}: "
        "treat depth made with them, and models trained on it, as not for commercial use. vits is "
        "Apache-2.0."
    )
