"""Pages of anything that depthtok wrote: images and curves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from depthtok.errors import SourceError
from depthtok.log import typed
from depthtok.pages.related import link_back
from depthtok.pages.report import Report
from depthtok.stores.codes import CodeStore
from depthtok.stores.lineage import open_store
from pipelines.inspect.frame_views import film_of, frame_rows
from pipelines.inspect.kinds import as_described, kind_of, not_known
from pipelines.inspect.store_pages import store_report
from pipelines.inspect.trail import Trail


def maker(path: Path, source_root: Path | None = None) -> Callable[[Path], Report]:
    """What makes the report of what lies at `path`. Raises `SourceError` where nothing does."""
    makers = {
        "store": lambda path: store_report(open_store(path, source_root), source_root),
        "codebook": codebook_report,
        "run": run_report,
        "evaluation": evaluation_report,
    }
    kind = kind_of(path)
    if kind == "rlds":
        raise SourceError(
            f"{path} is an RLDS data set: a page is made of what depthtok wrote",
            remedy=f"`{typed('inspect', path)}` tells what is in it; for a page with frames: "
            f"`{typed('convert', path, '--out', 'EPISODES')}`, then `depthtok report EPISODES`",
        )
    if kind is None or kind not in makers:
        raise not_known(path)

    def make(path: Path) -> Report:
        with as_described(path, kind):
            return makers[kind](path)

    return make


def run_report(path: Path) -> Report:
    """Curves, predicted depth and settings of a training run."""
    from vla.evaluation import report

    return report.run_report(path)


def evaluation_report(path: Path) -> Report:
    """Success rates of an evaluation, and videos of some trials."""
    from pipelines.evaluate import verdict
    from pipelines.evaluate.trials import Evaluation

    return verdict.page(Evaluation.open(path))


def codebook_report(path: Path) -> Report:
    """What a codebook keeps and loses, and what each of its codes looks like."""
    from vqvae.codec import Codec
    from vqvae.quality.report import of_codebook

    return of_codebook(Codec.load(path))


def demo_report(out: Path, sample: Path) -> Path:
    """One page for the demo: RGB, depth, codes and decoded depth side by side, and the pages of all
    that was made, with links to and fro."""
    codes = CodeStore(sample / "codes")
    trail = Trail.of(codes)
    episodes, depth = trail.episodes, trail.depth
    assert episodes is not None, "the demo made them"
    assert depth is not None, "the demo made it"
    folders = [sample / name for name in ("episodes", "depth", "estimated-depth", "codes")]
    folders += [out / "codebook", out / "policy"]
    for folder in folders:
        maker(folder)(folder).write(folder)
    audit = sample / "audit" / "report.html"  # older than the pages of what it is about
    for folder in (sample / "estimated-depth", sample / "depth"):
        link_back(folder / "report.html", [audit])
        link_back(audit, [folder / "report.html"])
    page = Report("depthtok: what the demo made", "From robot episodes to depth codes to a policy")
    page.related([*folders, sample / "audit"])
    page.numbers(
        {
            "episodes": len(episodes),
            "steps": episodes.steps,
            "bytes of codes a frame": codes.grid[0] * codes.grid[1],
            "bytes of depth a frame": depth.files_bytes() / (episodes.steps * len(depth.cameras)),
        }
    )
    page.text(
        "Below is an episode: the camera's image, its depth (red is near), the 16x16 grid of "
        "codes that the depth became (a colour a code), and the depth that the codes decode to. "
        "The links above lead to a page for each thing that was made.",
        title="From image to codes",
    )
    if (film := film_of(trail)) is not None:
        page.film("One episode, step by step", film)
    page.frames("The middle frames of all episodes", frame_rows(trail), shown=2)
    return page.write(out)
