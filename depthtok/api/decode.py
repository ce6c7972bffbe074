"""decode: codes back to depth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from depthtok.api.parameters import Positional
from depthtok.api.stage_runs import OnDevice, Out, carry_out

if TYPE_CHECKING:
    from pipelines.plan import Plan
    from pipelines.stage import Outcome


def decode(
    codes: Annotated[Path, Positional("CODES", "a CodeStore")],
    out: Out,
    options: OnDevice,
    codebook: Annotated[Path | None, "the codes' codebook, if it has moved"] = None,
) -> Outcome | Plan:
    """Decode codes: CodeStore -> DepthStore of disparity.

    Example: depthtok decode runs/codes --out runs/decoded
    """
    from depthtok.stores.codes import CodeStore
    from pipelines.decode import DecodeStage
    from pipelines.device import choose_for

    store, device = CodeStore(codes), choose_for(options)
    book = store.open_codebook(codebook)
    return carry_out(DecodeStage(store, book, out, device, partial=options.partial), options)
