"""demo: the whole path on data that ships with the package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from depthtok.api.annotate import annotate
from depthtok.api.audit_depth import audit_depth
from depthtok.api.interface import read
from depthtok.api.run import Description, Step, WholeRun, carry_out, not_whole, taken
from depthtok.config import load_toml

if TYPE_CHECKING:
    from depthtok.api.audit_depth import DepthAudit


@dataclass(frozen=True)
class Demo:
    """What was made: the run, the estimated depth held against the truth, and a page of it all.

    There is no page where a stage failed, or the estimated depth is wrong.
    """

    run: WholeRun
    audit: DepthAudit | None = None
    page: Path | None = None
    failed: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """1 where there is no page."""
        return int(self.page is None)


def demo(out: Annotated[Path, "output directory"] = Path("demo")) -> Demo:
    """Show the whole path, RLDS to policy, on data that ships.

    Takes a few minutes and no downloads: a small simulated data set with ground-truth depth comes
    with the package.
    """
    from pipelines.inspect.pages import demo_report

    description = _description(out)
    run = carry_out(description)
    if run.exit_code:
        return Demo(run)
    audit = estimate(description)
    if audit.wrong:  # weak it may be: nothing below is made from it
        return Demo(run, audit)
    page = demo_report(description.out, description.path("sample", ""))
    return Demo(run, audit, page, tuple(not_whole(description)))


def _description(out: Path) -> Description:
    """The run of the demo: `demo.toml`, with the shipped data and the shipped codebook."""
    from importlib.resources import files

    package = files("depthtok")
    content = load_toml(Path(str(package / "sample" / "demo.toml")))
    content["out"] = str(out)
    content["data"] = {"sample": str(package / "sample" / "libero_sample")}
    content["tokenize"] = {**content["tokenize"], "codebook": str(files("vqvae") / "demo")}
    return Description.read(content, "the demo's settings")


def estimate(description: Description) -> DepthAudit:
    """The demo's extra step: depth as the shipped demo network sees it, held against the truth."""
    sample = description.path("sample", "")
    estimated, device = sample / "estimated-depth", description.tables["how"].get("device", "auto")
    values = {
        "source": sample / "episodes",
        "out": estimated,
        "estimator": "tiny",
        "device": device,
    }
    title = "estimate depth from RGB alone, and compare it with the ground truth"
    step = Step("extra", title, "annotate", read(annotate).bind(values, "[extra]"))
    taken(step, annotate)
    stores = {"estimated": estimated, "truth": sample / "depth", "out": sample / "audit"}
    step = Step("", "", "audit-depth", read(audit_depth).bind(stores, "[extra]"))
    return taken(step, audit_depth).result
