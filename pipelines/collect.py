"""collect: a simulator -> an RLDS data set with true depth.

    OUT/features.json, dataset_info.json, NAME-train.tfrecord-*   the data set of the successes
    OUT/failed/                                                   the same for the failures
    OUT/recording/                                                a store with one part per episode

An episode is committed once its part exists, so a run resumes where it stopped, with any number of
workers. The data set is assembled from the parts, in order, once the last one exists.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from depthtok.config import digest
from depthtok.disk.files import write_atomic
from depthtok.disk.temporaries import sweep
from depthtok.errors import ConfigError, SourceError
from depthtok.sources.episode import RawEpisode
from depthtok.sources.shards import INFO
from depthtok.sources.tfrecord import frame, read_records
from depthtok.sources.write import EpisodeValues, RldsWriter, encode_episode
from depthtok.stores.arrays import ArraySpec
from depthtok.stores.part_writer import PartWriter
from depthtok.stores.parts import Part, PartName, ShardKey, shard_name
from depthtok.stores.spec import StoreSpec
from depthtok.stores.store import Store
from pipelines.sim.benchmark import Benchmark, Replays, benchmark_of, numbered
from pipelines.sim.config import CollectConfig, numbers
from pipelines.sim.motion import Motion
from pipelines.sim.perturb import Ranges
from pipelines.sim.recording import EpisodeOrigin, features, film, variations
from pipelines.sim.simulator import Simulator, Task
from pipelines.stage import Advance, Probe, Stage, Worker, WorkPart, recording_failures

VERSION = 2
DATA_VERSION = "1.0.0"
RECORDING, FAILED = "recording", "failed"  # directories
GOOD, BAD = "episode.tfrecord", "failed.tfrecord"  # one of the two in every part
SPLIT = "train"
WRITTEN = "written"  # in the store: what the data set was assembled from


@dataclass(frozen=True)
class CollectStage:
    """One part for every episode."""

    out_dir: Path  # the data set's directory
    config: CollectConfig
    unit: str = "episodes"

    @property
    def out(self) -> Path:
        """The directory of the recording's store."""
        return self.out_dir / RECORDING

    @property
    def benchmark(self) -> Benchmark:
        """What has the suite."""
        return benchmark_of(self.config.suite)

    @property
    def replays(self) -> Replays:
        """The reader of demonstration files. Raises `ConfigError` where the benchmark has none."""
        replays = self.benchmark.replays
        if replays is None:
            raise ConfigError(
                f"there are no demonstrations of {self.benchmark.title} to replay",
                remedy="leave --demos out",
            )
        return replays

    @property
    def name(self) -> str:
        """The data set's name."""
        return self.config.name or self.usual_name

    @property
    def usual_name(self) -> str:
        """What recordings of the benchmark are called, if not otherwise; a schema has this name."""
        return f"{self.benchmark.name}_sim_depth"

    @cached_property
    def tasks(self) -> dict[int, Task]:
        """The tasks by number, from the settings or from the demonstration files."""
        if self.config.demos:
            return dict(enumerate(map(self.replays.task_of, self.config.demos)))
        return {task.number: task for task in self._sorted_out[0]}

    @property
    def ranges(self) -> Ranges:
        """What views and starts are drawn from."""
        return self.benchmark.ranges(self.config.views, self.config.starts)

    @property
    def left_out(self) -> str:
        """Numbers of tasks that the expert cannot do; explicitly requested ones raise instead."""
        if self.config.demos or self.config.tasks:
            return ""
        return ", ".join(str(task.number) for task in self._sorted_out[1])

    @cached_property
    def _sorted_out(self) -> tuple[list[Task], list[Task]]:
        suite, chosen = self.config.suite, numbers(self.config.tasks, "tasks")
        tasks = [numbered(suite, number) for number in chosen] or self.benchmark.tasks(suite)
        expert = self.benchmark.expert
        can, cannot = expert.sort_out(tasks)
        if cannot and (chosen or not can):
            names = "; ".join(f"{task.number} ({task.name})" for task in cannot)
            raise ConfigError(
                f"the scripted expert {expert.limits}; these tasks of {suite} need more: {names}",
                remedy="leave them out of --tasks, or replay demonstrations of them (--demos)",
            )
        return can, cannot

    @cached_property
    def counts(self) -> dict[int, int]:
        """The number of episodes of each task."""
        if self.config.demos:
            return {n: self.replays.count(path) for n, path in enumerate(self.config.demos)}
        return dict.fromkeys(self.tasks, self.config.episodes)

    @cached_property
    def spec(self) -> StoreSpec:
        config = self.config
        settings: dict[str, object] = {"name": self.name, "size": config.size}
        if config.demos:
            settings["demos"] = [self.replays.fingerprint(path) for path in config.demos]
        else:
            names = ["suite", "seed", "noise", "variety", "official_init_states"]
            names += ["views", "starts", "renderings"] * bool(config.views or config.starts)
            settings |= {name: getattr(config, name) for name in names}
        about = {"versions": self.benchmark.versions()}
        shards = {_split(number): count for number, count in self.counts.items()}
        return StoreSpec("recording", "collect", VERSION, settings, about, "", shards)

    def work(self) -> list[WorkPart]:
        episodes = [(n, episode) for n, count in self.counts.items() for episode in range(count)]
        return [self._part(number, episode) for number, episode in episodes]

    def _part(self, number: int, episode: int) -> WorkPart:
        split, count, rows = _split(number), self.counts[number], (episode, episode + 1)
        name = PartName(shard_name(split, episode, count))
        shard = ShardKey(self.name, DATA_VERSION, split, episode, count)
        return WorkPart(name, shard, self.config.renderings, 0, source=str(number), rows=rows)

    def arrays(self) -> Mapping[str, ArraySpec]:
        return {}

    def build(self, device: str) -> Worker:
        return _Recorder(self)

    def probe(self, parts: Sequence[WorkPart]) -> Probe | None:
        """Measures nothing: an episode is only known when it is recorded."""
        return None

    def finish(self) -> None:
        """Assembles the data set, unless that was already done from the same parts. Raises
        `SourceError` if no episode succeeded."""
        mark = self.out / WRITTEN
        if mark.is_file() and mark.read_text() == self._state():
            return
        files = Counter(name for part in Store(self.out).parts() for name in part.manifest["files"])
        # Of a motion without any action there is no recording: it is neither good nor bad.
        counted = files[GOOD], files[BAD], sum(self.counts.values())
        good, bad, total = (motions * self.config.renderings for motions in counted)
        if bad:
            self._write(self.out_dir / FAILED, BAD, f"{bad} failed episodes of {total}. ")
        else:  # those of a former run that were retried
            shutil.rmtree(self.out_dir / FAILED, ignore_errors=True)
        if not good:
            folder = f"; they are in {self.out_dir / FAILED}" if bad else ""
            remedy = "choose other tasks, or less --noise and --variety"
            raise SourceError(f"none of {total} episodes succeeded{folder}", remedy=remedy)
        self._write(self.out_dir, GOOD, f"{good} of {total} episodes: the successful. ")
        write_atomic(mark, self._state())

    def _state(self) -> str:
        """Digest of the data set's content, and of the names of the existing files."""
        parts = [part.digest for part in Store(self.out).parts()]
        folders = (self.out_dir, self.out_dir / FAILED)
        names = [sorted(path.name for path in folder.glob("[!.]*")) for folder in folders]
        return digest([parts, self.config.episodes_per_shard, self._description(), names])

    def _write(self, folder: Path, record: str, counts: str) -> None:
        """Replaces the data set in `folder`; it is incomplete while this runs. `record` is the file
        of an episode in its part, `counts` begins the description."""
        sweep(folder)
        (folder / INFO).unlink(missing_ok=True)
        for shard in folder.glob(f"{self.name}-{SPLIT}.tfrecord-*"):
            shard.unlink(missing_ok=True)  # another job may be assembling the same
        declared = features(self.config.size, self.benchmark.layout)
        writer = RldsWriter(folder, self.name, DATA_VERSION, declared, counts + self._description())
        episodes = (
            values for part in self._parts(record) for values in _values(part.path / record, writer)
        )
        writer.write(SPLIT, episodes, self.config.episodes_per_shard)
        writer.finish()

    def _parts(self, record: str) -> Iterator[Part]:
        """The parts with a file of this name, checked."""
        for part in Store(self.out).parts():
            if record in part.manifest["files"]:
                part.require(record)
                yield part

    def _description(self) -> str:
        config = self.config
        how = (
            f"Official human demonstrations of {self.benchmark.title}, replayed without idle "
            "actions."
            if config.demos
            else f"A scripted expert in {config.suite} (not human demonstrations), seed "
            f"{config.seed}, noise up to {config.noise}, variety {config.variety}, starting from "
            + ("official initial states." if config.official_init_states else "drawn placements.")
        )
        if config.views or config.starts:
            views = f"views {config.views or 'as usual'}, {config.renderings} of each motion"
            how += f" Drawn from ranges: {views}; robot starts {config.starts or 'as usual'}."
        if self.left_out:
            how += f" Tasks left out, as it cannot do them: {self.left_out}."
        used = ", ".join(f"{name} {version}" for name, version in self.benchmark.versions().items())
        return f"{how} Rendered with true depth by {used}. {self.benchmark.licence}"


def _split(number: int) -> str:
    return f"task-{number:02d}"


def _values(path: Path, writer: RldsWriter) -> Iterator[EpisodeValues]:
    """The recorded episodes of a motion, with images in their encoded form."""
    for record in read_records(path):
        raw = RawEpisode(path, 0, 0, record.data, writer.features)
        readers: dict[str, Callable[[str], object]] = {"image": raw.items, "text": raw.text}
        declared = writer.features.items()
        yield {name: readers.get(feature.kind, raw.values)(name) for name, feature in declared}


_: type[Stage] = CollectStage


class _Recorder:
    """A worker: keeps one simulator, that of the current task."""

    def __init__(self, stage: CollectStage) -> None:
        self._stage = stage
        self._simulator: Simulator | None = None

    def __call__(self, work: WorkPart, writer: PartWriter, advance: Advance) -> None:
        number, episode = int(work.source), work.rows[0]
        with recording_failures(writer, 0):  # of all renderings: they have one cause
            simulator = self._of(number)
            if self._stage.config.demos:
                self._replay(simulator, number, episode, writer)
            else:
                self._demonstrate(simulator, number, episode, writer)
        advance(self._stage.config.renderings)

    def _of(self, number: int) -> Simulator:
        task = self._stage.tasks[number]
        if self._simulator is not None and self._simulator.task.world != task.world:
            self._simulator.close()
            self._simulator = None
        if self._simulator is None:
            size, benchmark = self._stage.config.size, self._stage.benchmark
            self._simulator = benchmark.open(task, size, benchmark.settle_steps)
        elif self._simulator.task != task:  # it still has the last episode's view and start
            self._simulator.vary(task)
        return self._simulator

    def _demonstrate(
        self, simulator: Simulator, number: int, episode: int, writer: PartWriter
    ) -> None:
        config, ranges = self._stage.config, self._stage.ranges
        seed = self._stage.tasks[number].seed("collect", config.seed, episode)
        if ranges:
            simulator.vary(replace(simulator.task, variation=ranges.draw(seed)))
        init = episode % simulator.task.init_states if config.official_init_states else None
        shown = self._stage.benchmark.expert.demonstrate(
            simulator, seed=seed, noise=config.noise, variety=config.variety, init_state=init
        )
        writer.meta |= {"seed": seed, "init_state": init, **shown.about}
        start = "sampled" if init is None else f"init{init}"
        origin = EpisodeOrigin(f"{start}_seed{seed}", seed, init, shown.noise)
        self._commit(simulator, shown.motion, writer, origin, seed)

    def _replay(self, simulator: Simulator, number: int, episode: int, writer: PartWriter) -> None:
        path = self._stage.config.demos[number]
        motion, recorded = self._stage.replays.replay(simulator, path, episode)
        writer.meta |= {"demo": recorded, "file": path.name}
        self._commit(simulator, motion, writer, EpisodeOrigin(f"{path.stem}_{recorded}"))

    def _commit(
        self,
        simulator: Simulator,
        motion: Motion,
        writer: PartWriter,
        origin: EpisodeOrigin,
        seed: int = 0,
    ) -> None:
        """Puts the motion into the part, rendered from each of its views."""
        if not len(motion):
            raise SourceError("no action was executed")
        records, count = b"", self._stage.config.renderings
        layout = self._stage.benchmark.layout
        for varied in variations(simulator, self._stage.ranges, seed, count):
            values = film(simulator, motion, replace(origin, label=origin.label + varied), layout)
            records += frame(encode_episode(values, features(simulator.size, layout)))
        (writer.directory / (GOOD if motion.success else BAD)).write_bytes(records)
        if not motion.success:
            writer.fail(0, f"not solved in {len(motion)} steps")
            return
        for rendering in range(count):
            writer.end(rendering, len(motion))
