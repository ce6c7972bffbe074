"""The policies that `eval` can play: training runs, and servers of openpi's protocol."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from depthtok.errors import ConfigError
from depthtok.log import warn
from depthtok.meaning import Meaning
from depthtok.orientation import Orientation
from depthtok.remote.repository import recorded
from depthtok.required import fulfilled
from pipelines.evaluate.judged import knows_codes
from pipelines.evaluate.server import Server, plain
from pipelines.sim.rollout import Player, Rollout
from vla.config import Config
from vla.training.checkpoint import TrainingState

SERVER = ("ws://", "wss://")
MAIN = "image"  # what every benchmark calls its main camera
EARLY = 10  # plans of a trial whose depth codes are judged by themselves, unless it ends in them
_MEANT = ("meaning", "gripper", "orientations")
"""In a server's greeting: held against the robot and the benchmark, and no part of who it is."""


@dataclass(frozen=True)
class PolicySource:
    """Where a policy comes from. Travels to the worker processes, which open it. Raises
    `ConfigError` for depth codes to compare of a policy that the workers share."""

    address: str  # a run, a checkpoint, or ws://HOST:PORT
    dataset: str | None = None  # in whose units it acts
    device: str = "cpu"
    codebook: Path | None = None  # to compare its depth codes with those of the true depth
    gripper: str | None = None  # its convention, as the user states it
    accepted: tuple[str, ...] = ()  # aspects in which it may differ from the robot
    precision: str | None = None  # None: float32
    sampler: str | None = None  # None: auto
    cuda_graph: bool | None = None  # None: on a GPU
    batch: int | None = None  # observations a pass, of one policy that all ask; None: one each

    def __post_init__(self) -> None:
        fulfilled(
            not self.batch or self.codebook is None,
            "depth codes are compared where each worker has a policy of its own",
            "leave --codebook out, or --set batch",
        )

    @property
    def is_server(self) -> bool:
        return self.address.startswith(SERVER)

    @property
    def runs_on(self) -> dict[str, str]:
        """The device of a policy that is not behind a server."""
        return {} if self.is_server else {"device": self.device}

    def card(self, robot: Meaning, shown: Orientation = Orientation.UNKNOWN) -> dict[str, Any]:
        """What identifies the policy, and what its actions mean. `shown` is how the pictures that
        it will see relate to the true view. Raises `WeightsError`, and `ConfigError` for a policy
        whose actions are not those of the robot, or that learnt from pictures another way up."""
        from depthtok.stores.agreement import (
            ASPECTS,
            ORIENTATION,
            require_aspects,
            require_same_view,
        )

        require_aspects(self.accepted, "--accept", (*ASPECTS, ORIENTATION))
        if self.is_server:
            self._require_free()
            with closing(Server(self.address)) as server:
                says = plain(server.greeting)
                if isinstance(says, dict):
                    says = {name: value for name, value in says.items() if name not in _MEANT}
                meant = self._meant(server.meaning, robot)
                require_same_view(server.orientations, shown, self.accepted)
                return {"policy": self.address, "says": says, **meant}
        from vla.training import checkpoint

        path = checkpoint.find(self.address)
        state, config = checkpoint.read_state(path), checkpoint.read_config(path)
        if self.codebook is None and config.model.depth.target == "input":
            raise ConfigError(
                f"the actions of {self.address} take the codes of true depth",
                remedy="give --codebook, the one that it was trained with",
            )
        if self.codebook is not None and not knows_codes(config.model.depth):
            raise ConfigError(
                f"{self.address} was not trained to predict the depth codes of what it sees",
                remedy="leave --codebook out",
            )
        name = self.dataset or next(iter(state.norms), "")
        require_same_view(state.orientations.get(name, {}), shown, self.accepted)
        return {
            "policy": recorded(path),
            "step": state.step,
            "weights": checkpoint.weights_sha256(path),
            "dataset": self.dataset,
            "config": config.to_json(),
            **self._runs(config),
            "codebook": state.codebook,
            "judged_by": self._fingerprint(state.codebook),
            **self._judged(config),
            **self._meant(self._meaning(state, config), robot),
        }

    def chosen_by(self, stated: str) -> str:
        """Which checkpoint this is, and by what it was chosen, as far as it is known."""
        if self.is_server:
            which = "as served"
        else:
            from vla.training import checkpoint

            newest = checkpoint.find(self.address) != Path(self.address)
            which = "the newest of its run" if newest else "named"
        return f"{which}, by {stated}" if stated else which

    def _require_free(self) -> None:
        """Raises `ConfigError` for what a server decides, or does not tell."""
        if self.codebook is not None:
            raise ConfigError(
                "a server does not tell its depth codes", remedy="leave --codebook out"
            )
        for name in ("precision", "sampler", "cuda_graph", "batch"):
            if getattr(self, name) is not None:
                flag = f"--{name.replace('_', '-')}"
                raise ConfigError(
                    f"{flag} is decided where the policy runs", remedy=f"give `serve` the {flag}"
                )

    @property
    def _how(self) -> dict[str, Any]:
        return {
            "precision": self.precision or "float32",
            "sampler": self.sampler or "auto",
            "cuda_graph": self.cuda_graph,
            "batch": self.batch or 1,
        }

    def _runs(self, config: Config) -> dict[str, Any]:
        """How the policy runs, for the card."""
        import torch

        from vla.serving.running import Running

        return Running(**self._how).on(torch.device(self.device), config.model).told()

    def _meant(self, meaning: Meaning | None, robot: Meaning) -> dict[str, Any]:
        """What the card says of the policy's meaning. Raises `ConfigError` where that is not the
        robot's."""
        from depthtok.stores.agreement import for_robot, stated

        meaning = stated(meaning, self.gripper, robot)
        for_robot(meaning, robot, self.accepted)
        return {"meaning": meaning and meaning.to_json(), "accepted": list(self.accepted)}

    def _meaning(self, state: TrainingState, config: Config) -> Meaning | None:
        """What a run's actions mean; of one that was made before runs kept it, as the shipped
        schema of its data set says."""
        from depthtok.sources.schema import Schema
        from vla.serving.policy import seen

        name = self.dataset or next(iter(state.norms), "")
        if name in state.meanings:
            return seen(state.meanings[name], config)
        schema = Schema.find(re.sub(r"-\d+$", "", name)) if not state.meanings else None
        if schema is None or len(schema.meaning.action) != config.model.action_dim:
            return None
        warn(
            f"{self.address} does not say what its actions mean (it is of before runs kept that): "
            f"taken as in the shipped schema of {name}, gripper {schema.gripper}"
        )
        return seen(schema.meaning, config)

    def _judged(self, config: Config) -> dict[str, str]:
        """The camera whose codes are judged, where it is not the main one. Earlier versions held
        all codes against the main one's depth: such trials are not to be gone on with."""
        judged = self.codebook is not None and config.model.depth.target != "input"
        first = config.data.cameras[:1]
        return {"judged_camera": first[0]} if judged and first not in ((), (MAIN,)) else {}

    def _fingerprint(self, trained: str) -> str:
        """Of the codebook that the depth codes are evaluated with: that of the training, which has
        codes for the simulator's metres. Raises `DepthKindError` where its fixed range is not of
        metres."""
        if self.codebook is None:
            return ""
        from depthtok.data import DepthKind
        from depthtok.stores.codebook import Codebook

        book = Codebook.load(self.codebook)
        if book.fingerprint != trained:
            raise ConfigError(
                f"{self.codebook} is not the codebook that {self.address} was trained with",
                remedy="give that one with --codebook, or leave it out",
            )
        book.normalisation.require(DepthKind.METRES)
        return book.fingerprint

    def open(self, robot: Meaning) -> Player:
        """The policy, ready to act; it says what its actions mean."""
        from depthtok.stores.agreement import stated

        if self.is_server:
            server = Server(self.address)
            server.meaning = stated(server.meaning, self.gripper, robot)
            return server
        from vla.serving.policy import Policy
        from vla.training import checkpoint

        policy = Policy.load(self.address, dataset=self.dataset, device=self.device, **self._how)
        state = checkpoint.read_state(checkpoint.find(self.address))
        policy.meaning = stated(self._meaning(state, policy.config), self.gripper, robot)
        if self.codebook is None:
            return policy
        if policy.config.model.depth.target == "input":
            from pipelines.evaluate.true_depth import TrueDepth

            guides = policy.cameras[: policy.config.model.depth.cameras]
            return TrueDepth(policy, guides, self.codebook, self.device)
        return Seeing(policy, self.codebook, self.device)


class Seeing:
    """A policy whose depth codes are noted whenever it is asked, for an evaluation after it. They
    are those of its first camera, which `judged` names to `play`."""

    def __init__(self, policy, codebook: Path, device: str) -> None:
        from vqvae.codec import Codec

        self._policy = policy
        self.meaning, self.cameras = policy.meaning, policy.cameras
        self.judged = policy.cameras[0]
        self._codec = Codec.load(codebook, device)
        self._seen: list[UInt8[np.ndarray, "h w"]] = []

    def reset(self, seed: int) -> None:
        self._policy.reset(seed)
        self._seen = []

    def act(self, observation: Mapping[str, Any]) -> Float32[np.ndarray, "C A"]:
        import torch

        grid = self._codec.codebook.grid
        with torch.inference_mode():
            logits = self._policy.model.predict_depth(self._policy.observe([observation]))
        codes = logits[0, 0].argmax(dim=-1).reshape(grid)
        self._seen.append(codes.cpu().numpy().astype(np.uint8))
        return self._policy.act(observation)

    def measure(self, rollout: Rollout) -> dict[str, float]:
        """Agreement of the predicted codes with those of the true depth, and the error in
        normalised disparity after decoding both, of all plans and of the `EARLY` first; adds both
        as panels. The range is that of all plans; `early_own_error` is of the first ones with the
        range of those, as only that is known before a trial is decided; one that ends within them
        has none."""
        from depthtok.data import DepthKind
        from depthtok.pages.colour import colourise

        true, predicted = self._true_codes(rollout, rollout.plans), np.stack(self._seen)
        pictures = [self._codec.decode(codes) for codes in (true, predicted)]
        rollout.panels += [list(colourise(p, DepthKind.DISPARITY, 0.0, 1.0)) for p in pictures]
        errors = np.abs(pictures[0] - pictures[1])
        figures = {
            "code_agreement": float((true == predicted).mean()),
            "disparity_error": float(errors.mean()),
            "early_disparity_error": float(errors[:EARLY].mean()),
        }
        if rollout.plans > EARLY:
            early = self._codec.decode(self._true_codes(rollout, EARLY))
            figures["early_own_error"] = float(np.abs(early - pictures[1][:EARLY]).mean())
        return figures

    def _true_codes(self, rollout: Rollout, plans: int) -> UInt8[np.ndarray, "T h w"]:
        """The true depth at the first plans as codes, with the range of those."""
        from depthtok.data import QUANTILES, DepthClip, DepthKind, ImageTransform

        book = self._codec.codebook
        metres = np.stack(rollout.depth_m[:plans])  # of the end no codes were asked
        values = ImageTransform(size=book.size).depth(metres, DepthKind.METRES)
        clip = DepthClip.of(values, DepthKind.METRES).to_disparity()
        quantiles = tuple(np.quantile(clip.values[clip.valid], QUANTILES).tolist())
        return self._codec.encode(clip, book.normalisation.range_of(quantiles))


def measure(player: Player, rollout: Rollout) -> dict[str, float]:
    """What there is to say of a policy's depth codes; nothing where they are not known."""
    return player.measure(rollout) if isinstance(player, Seeing) else {}
