"""What remains of one training of an arm: a small file that says all; weights need not last.

RESULTS/ARM/seed-3.json holds the settings, the last figures of the training, the protocol and the
outcome of every trial, and what both cost. RESULTS is OUT/results, or where the study says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean

from depthtok.config import digest
from depthtok.disk.files import write_atomic
from depthtok.disk.json_files import read_json_object
from depthtok.errors import as_type, as_written
from pipelines.evaluate.trials import Evaluation
from vla.config import Config
from vla.evaluation.ablation import RunFigures
from vla.training import checkpoint

AGAIN = "delete that file: `depthtok ablate` makes it anew where the run is still there"
PROTOCOL = (
    *("suite", "seed", "trials", "max_steps", "replan_steps", "settle_steps", "size", "versions"),
    *("action_noise", "views", "starts", "different_states", "chosen_by", "tasks"),
)


@dataclass(frozen=True)
class SeedResult:
    """One training and its trials."""

    arm: str
    seed: int
    config: Mapping[str, object]  # as asked for, before the data decide dimensions
    playing: Mapping[str, object] | None  # the settings of the evaluation, if there is one
    figures: RunFigures
    protocol: Mapping[str, object]
    trials: Mapping[str, Mapping[str, object]]  # by name: success, steps, depth figures if known
    data: str  # digest of what was learnt from
    codes: Mapping[str, object]  # how wrong codes were drawn, by data set; {}: true ones
    weights: Mapping[str, str]  # sha256 by file
    version: str
    cpu_s: Mapping[str, float | None]  # of the training and of all trials; None: not known
    learnt: Mapping[str, object] | None = None  # see `learnt.py`; None: of before that was kept

    @staticmethod
    def path(results: Path, arm: str, seed: int) -> Path:
        """Where it lies in a study's results."""
        return results / arm / f"seed-{seed}.json"

    @classmethod
    def of(
        cls,
        arm: str,
        seed: int,
        config: Config,
        run: Path,
        playing: Mapping[str, object] | None,
        evaluation: Path | None,
        cpu_s: Mapping[str, float | None],
        learnt: Mapping[str, object],
    ) -> SeedResult:
        """Of a finished run, and its evaluation."""
        newest = checkpoint.find(run)
        state = checkpoint.read_state(newest)
        played = Evaluation.open(evaluation) if evaluation else None
        return cls(
            arm,
            seed,
            config.to_json(),
            playing,
            RunFigures.of(run),
            {name: played.card[name] for name in PROTOCOL if name in played.card} if played else {},
            {
                outcome.name: {"success": outcome.success, "steps": outcome.steps}
                | dict(outcome.measures)
                for outcome in (played.outcomes if played else ())
            },
            digest([state.codebook, list(state.data or ())]),
            (state.notes or {}).get("depth_codes", {}),
            checkpoint.weights_sha256(newest),
            version("depthtok"),
            cpu_s,
            learnt,
        )

    def write(self, results: Path) -> None:
        """Commits it."""
        path = self.path(results, self.arm, self.seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(asdict(self), indent=1, sort_keys=True, default=str) + "\n")

    @classmethod
    def read(cls, path: Path) -> SeedResult:
        """A committed one. Raises `CorruptPart`."""
        content = read_json_object(path, AGAIN)
        with as_written(path, AGAIN):
            figures = RunFigures.from_json(as_type(dict, content.pop("figures")))
            result = cls(figures=figures, **content)
            as_type(str, result.arm), as_type(int, result.seed), as_type(dict, result.config)
            as_type(dict, result.learnt or {})
            for trial in as_type(dict, result.trials).values():
                as_type(bool, trial["success"])
        return result

    @property
    def won(self) -> dict[str, bool]:
        """The success of every trial, by name."""
        return {name: as_type(bool, trial["success"]) for name, trial in self.trials.items()}

    def mean_of(self, measure: str) -> float | None:
        """The mean of a figure of the trials over those that have it; None where none has."""
        values = [trial.get(measure) for trial in self.trials.values()]
        numbers = [value for value in values if isinstance(value, float)]
        return fmean(numbers) if numbers else None

    @property
    def rate(self) -> float | None:
        """Of all trials."""
        return sum(self.won.values()) / len(self.trials) if self.trials else None
