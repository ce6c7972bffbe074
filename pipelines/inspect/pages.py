"""Pages of anything that depthtok wrote: images and curves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from depthtok.errors import SourceError
from depthtok.log import typed
from depthtok.pages.colour import code_picture, colourise
from depthtok.pages.report import Picture, Report
from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.lineage import open_store
from depthtok.stores.parts import Part
from depthtok.stores.store import Store
from pipelines.inspect.kinds import as_described, kind_of, not_known
from pipelines.inspect.summary import inspect

PICTURED = 4  # episodes


def maker(path: Path, source_root: Path | None = None) -> Callable[[Path], Report]:
    """What makes the report of what lies at `path`. Raises `SourceError` where nothing does."""
    makers = {
        "store": lambda path: store_report(open_store(path, source_root)),
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


def store_report(store: Store) -> Report:
    """Facts of a store, and frames of some of its episodes."""
    summary = inspect(store.path)
    page = Report(summary.title, str(store.path)).facts("What it is", summary.facts)
    for title, (columns, rows) in summary.tables.items():
        page.table(title, columns, rows)
    pictures = _pictures(store)
    return page if pictures is None else page.pictures("Some frames", pictures, columns=3)


def _pictures(store: Store) -> Iterator[Picture] | None:
    """Some frames of a store; None for one without any."""
    if isinstance(store, EpisodeStore):
        return _frames(store)
    if isinstance(store, DepthStore):
        return _depths(store)
    return _codes(store) if isinstance(store, CodeStore) else None


def _steps(length: int) -> list[int]:
    """The first, a middle and the last frame."""
    return sorted({0, length // 2, length - 1})


def _first_with_episodes(store: Store) -> list[Part]:
    """The first part that holds any, alone; none where all have failed."""
    return [part for part in store.parts() if len(part.frames)][:1]


def _frames(store: EpisodeStore) -> Iterator[Picture]:
    for number in range(min(PICTURED, len(store))):
        episode = store.episode(number)
        for camera in store.cameras:
            for step in _steps(len(episode)):
                frame = episode.frames(camera).read(step, step + 1)[0]
                yield Picture(frame, f"{episode.instruction(step)}: {camera}, step {step}")


def _depths(store: DepthStore) -> Iterator[Picture]:
    for part in _first_with_episodes(store):
        for clip in list(store.clips_of(part, store.cameras))[: PICTURED * len(store.cameras)]:
            low, high = clip.quantiles[1], clip.quantiles[-2]
            for step in _steps(len(clip)):
                depth = clip.read(step, step + 1)
                pixels = colourise(depth.values, store.kind, low, high, depth.valid)[0]
                yield Picture(
                    pixels,
                    f"{clip.key}: {clip.camera}, step {step}, {low:.3g} to {high:.3g} {store.kind}",
                )


def _codes(store: CodeStore) -> Iterator[Picture]:
    for part in _first_with_episodes(store):
        for episode in part.episodes[:PICTURED]:
            for camera in store.cameras:
                if store.absent(episode.key, camera):
                    continue
                grids = store.grid_of(episode.key, camera).codes
                for step in _steps(len(grids)):
                    yield Picture(
                        code_picture(grids[step]), f"{episode.key}: {camera}, step {step}"
                    )


def codebook_report(path: Path) -> Report:
    """What a codebook keeps and loses, and what each of its codes looks like."""
    from vqvae.codec import Codec
    from vqvae.quality.report import of_codebook

    return of_codebook(Codec.load(path))


def demo_report(out: Path, sample: Path) -> Path:
    """One page for the demo: RGB, depth, codes and decoded depth side by side, then the curves."""
    from vqvae.codec import Codec

    episodes, depth = EpisodeStore(sample / "episodes"), DepthStore(sample / "depth")
    codes = CodeStore(sample / "codes")
    book = codes.open_codebook()
    codec = Codec.load(book.path)
    page = Report("depthtok: what the demo made", "From robot episodes to depth codes to a policy")
    page.numbers(
        {
            "episodes": len(episodes),
            "steps": episodes.steps,
            "bytes of codes a frame": codes.grid[0] * codes.grid[1],
            "bytes of depth a frame": depth.files_bytes() / (episodes.steps * len(depth.cameras)),
        }
    )
    page.text(
        "Each row is one frame: the camera's image, its depth (near is warm), the 16x16 grid of "
        "codes that the depth became (a colour a code), and the depth that the codes decode to.",
        title="From image to codes",
    )
    page.pictures("Frames", list(_rows(episodes, depth, codes, codec.decode_disparity)), columns=4)
    trained = run_report(out / "policy")
    book_page = codebook_report(out / "codebook")
    book_page.write(out / "codebook")
    trained.write(out / "policy")
    folders = {
        "Estimated against true depth": sample / "audit",
        "The codebook trained here": out / "codebook",
        "The policy's training": out / "policy",
    }
    pages = {name: folder / "report.html" for name, folder in folders.items()}
    page.links("More pages", {name: page for name, page in pages.items() if page.exists()}, out)
    return page.write(out)


def _rows(
    episodes: EpisodeStore, depth: DepthStore, codes: CodeStore, decode: Callable
) -> Iterator[Picture]:
    """RGB, depth, codes and decoded depth of some frames."""
    for clip in list(depth.clips())[: 2 * len(depth.cameras)]:
        if clip.key not in codes or codes.absent(clip.key, clip.camera):
            continue
        episode = next(e for e in episodes if e.key == clip.key)
        step = len(clip) // 2
        grid = codes.grid_of(clip.key, clip.camera)
        depths = clip.read(step, step + 1).to_disparity()
        decoded = decode(grid.codes[step : step + 1], grid.range)
        low, high = grid.range
        yield Picture(
            episode.frames(clip.camera).read(step, step + 1)[0],
            f"{clip.camera}: {episode.instruction(step)}",
        )
        yield Picture(colourise(depths.values, depths.kind, low, high, depths.valid)[0], "depth")
        yield Picture(code_picture(grid.codes[step], cell=16), "codes")
        yield Picture(colourise(decoded, depths.kind, low, high)[0], "decoded from the codes")
