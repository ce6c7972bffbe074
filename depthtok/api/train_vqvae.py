"""A codebook for depth, trained, with its quality report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from depthtok.api.depth_stores import by_task, depth_sources
from depthtok.api.flags import Cameras, Device, EpisodesMoved, Partial, Resume, SourceRoot
from depthtok.api.parameters import Flag, Positional, Preset
from depthtok.launch import local_rank, world_size
from vqvae.config import TokeniserConfig

if TYPE_CHECKING:
    from vqvae.data.clips import ClipSource
    from vqvae.data.regions import EpisodesBehind
    from vqvae.training.plan import TrainingPlan


@dataclass(frozen=True)
class TrainedCodebook:
    """A codebook, what it is worth on the held-out clips, and the page that shows it."""

    codebook: Path
    fingerprint: str
    quality: dict[str, Any]
    report: Path
    rank: int = 0  # of this process, where torchrun started several


def train_vqvae(
    depth: Annotated[list[Path], Positional("DEPTH...", "DepthStores")],
    out: Annotated[Path, "directory of the codebook"],
    settings: Annotated[
        TokeniserConfig,
        Preset(
            TokeniserConfig.preset,
            "default",
            flags={
                **{name: f"training.{name}" for name in ("steps", "batch", "seed", "held_out")},
                **{name: f"network.{name}" for name in ("size", "grid")},
            },
            formerly={"normalisation": "normalisation", "quantizer": "quantizer.kind"},
        ),
    ],
    sampling_weight: Annotated[
        list[float] | None, Flag("how often its frames are drawn, one per store", formerly="weight")
    ] = None,
    camera: Cameras = None,
    held_out_task: Annotated[
        list[str] | None, "hold out episodes whose instruction contains this"
    ] = None,
    twin: Annotated[bool, "also train without a quantiser, as the bound"] = False,
    sticky: Annotated[
        float, Flag("also evaluate sticky codes of this tolerance", least=0, by_set=True)
    ] = 0.0,
    episodes: EpisodesMoved = None,
    source_root: SourceRoot = None,
    partial: Partial = False,
    demo: Annotated[bool, Flag("mark the codebook as a demo", by_set=True)] = False,
    device: Device = "auto",
    threads: Annotated[
        int, Flag("CPU threads of the model; 0: all cores", least=0, most=4096, by_set=True)
    ] = 0,
    plan: Annotated[bool, "say how long it would take here, and exit"] = False,
    resume: Resume = True,
) -> TrainedCodebook | TrainingPlan:
    """Train a codebook for depth: DepthStores -> codebook.

    Writes a quality report beside it. --preset also takes a TOML file with any of the settings
    (docs/tokeniser.md). On several GPUs, start it by
    torchrun --nproc-per-node 8 -m depthtok.cli train-vqvae ...

    Example: depthtok train-vqvae runs/depth --out runs/codebook
    """
    from depthtok.stores.codebook import Codebook
    from vqvae.data.regions import EpisodesBehind

    sources = depth_sources(depth, sampling_weight, camera, partial=partial)
    outs = [out, _twin(out)] if twin else [out]
    with _ranks(device, threads) as (rank, chosen_device), ExitStack() as held:
        behind = EpisodesBehind(episodes or (), source_root)
        training = _Training(
            sources, held_out_task or [], behind, chosen_device, resume, quiet=rank > 0
        )
        if plan:
            return training.plan(settings, out, twin=twin)
        if rank == 0:
            held.enter_context(_only_writer(outs))
        training.train(settings, out, demo=demo)
        if twin:
            training.train(settings.continuous(), _twin(out), demo=demo)
        if rank > 0:
            return TrainedCodebook(out, "", {}, out / "report.html", rank)
        training.conclude(out, twin=twin, sticky=sticky)
    book = Codebook.load(out)
    return TrainedCodebook(out, book.fingerprint, book.quality, out / "report.html")


@contextmanager
def _ranks(device: str, threads: int) -> Iterator[tuple[int, str]]:
    """This process's rank and device: as torchrun says, or alone."""
    from pipelines.device import choose, training_threads

    training_threads(threads)
    if world_size() < 2:
        yield 0, choose(device)
        return
    from datetime import timedelta

    from torch import cuda, distributed

    chosen = choose(device)
    if chosen.startswith("cuda"):
        chosen = f"cuda:{local_rank()}"
        cuda.set_device(chosen)
    # The others wait while rank 0 fills the cache and evaluates.
    backend = "nccl" if chosen.startswith("cuda") else "gloo"
    distributed.init_process_group(backend, timeout=timedelta(days=1))
    try:
        yield distributed.get_rank(), chosen
    finally:
        distributed.destroy_process_group()


@contextmanager
def _only_writer(outs: Sequence[Path]) -> Iterator[None]:
    """Locks these codebooks, whose directories appear when they are done, and can be written."""
    from depthtok.disk.files import require_writable
    from depthtok.disk.locks import writing

    with ExitStack() as stack:
        for out in outs:
            require_writable(out)
            stack.enter_context(writing(out, file=True))
        yield


class _Training:
    """Trainings over the same sources."""

    def __init__(
        self,
        sources: list[ClipSource],
        tasks: Sequence[str],
        behind: EpisodesBehind,
        device: str,
        resume: bool,
        *,
        quiet: bool,
    ) -> None:
        self.behind = behind
        self.learn, self.held_out = sources, None
        if tasks:
            self.learn, self.held_out = by_task(sources, tasks, self.behind)
        self.device, self.resume, self.quiet = device, resume, quiet

    def plan(self, config: TokeniserConfig, out: Path, *, twin: bool) -> TrainingPlan:
        """How long `train` would take."""
        from vqvae.training.plan import plan

        return plan(
            config,
            self.learn,
            out,
            self.device,
            held_out=self.held_out,
            twin=_twin(out) if twin else None,
            resume=self.resume,
        )

    def train(self, config: TokeniserConfig, out: Path, *, demo: bool) -> None:
        """Train into `out`. Raises `Stopped` where a signal ended it."""
        from depthtok.signals import stop_request
        from vqvae.config import TrainOptions
        from vqvae.training.train import train

        options = TrainOptions(device=self.device, resume=self.resume)
        with stop_request() as should_stop, self._steps(config, out) as on_step:
            weights = train(
                config,
                self.learn,
                out,
                options,
                held_out=self.held_out,
                on_step=on_step,
                should_stop=should_stop,
                masks=self.behind.masks,
                demo=demo,
            )
            if weights is None:
                raise should_stop.stopped

    @contextmanager
    def _steps(self, config: TokeniserConfig, out: Path) -> Iterator[Callable | None]:
        """What to call after each step, to move a progress line; None where none is shown."""
        from depthtok.progress import progress

        if self.quiet:
            yield None
            return
        with progress(config.training.steps, "steps", f"train-vqvae {out}") as bar:
            yield lambda step, figures: bar.reach(step, **figures)

    def conclude(self, out: Path, *, twin: bool, sticky: float) -> None:
        """Add what was asked for to the quality, and write the page."""
        from vqvae.codec import Codec
        from vqvae.quality.report import of_codebook
        from vqvae.training import export

        if twin:
            export.add_twin(out, _twin(out))
            of_codebook(Codec.load(_twin(out))).write(_twin(out))
        if sticky:
            export.add_sticky(out, self.learn, self.held_out, sticky, self.device)
        of_codebook(Codec.load(out)).write(out)


def _twin(out: Path) -> Path:
    return out.with_name(f"{out.name}.continuous")
