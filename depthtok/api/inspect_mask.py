"""The attention mask of a policy, drawn and proved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from depthtok.api.parameters import Positional

if TYPE_CHECKING:
    from vla.model.proof import Proof


@dataclass(frozen=True)
class MaskInspection:
    """The mask's table, with what was measured of it; `violations` names the gradients that
    contradict it."""

    proof: Proof
    violations: Sequence[str]
    page: Path | None = None


def inspect_mask(
    config: Annotated[str, Positional("CONFIG", "a preset (qdepth+causal), a TOML file or a run")],
    out: Annotated[Path | None, "also write a page and a PNG here"] = None,
) -> MaskInspection:
    """Draw an attention mask and verify it by gradients.

    Measured on a small model with the same mask and token types, in float64. Exit code 1 if a
    gradient contradicts the table.

    Example: depthtok inspect-mask qdepth --out runs/mask
    """
    from dataclasses import replace

    from depthtok.disk.files import require_writable
    from vla.model.proof import prove, shrunk
    from vla.named_configs import load

    if out is not None:
        require_writable(out)
    path = Path(config)
    settings = load(path / "config.json" if path.is_dir() else config)
    proof = prove(replace(settings, model=shrunk(settings.model)))
    page = None if out is None else _written(config, proof, out)
    return MaskInspection(proof, proof.violations(), page)


def _written(name: str, proof: Proof, out: Path) -> Path:
    """The page, and the mask as an image beside it."""
    from PIL import Image

    from vla.evaluation.report import mask_picture, mask_report

    page = mask_report(name, proof).write(out, "mask")
    Image.fromarray(mask_picture(proof)).save(out / "mask.png")
    return page
