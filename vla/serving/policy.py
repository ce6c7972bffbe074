"""A trained model as a policy: images, proprioception and an instruction in, actions out.

    policy = Policy.load("runs/bridge")
    actions = policy.act({"images": {"main": frame}, "proprio": state, "instruction": "open it"})

Actions are in the data set's own units; `policy.meaning` says which. Images and instruction are
encoded once per observation; the Euler steps reuse their keys and values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from depthtok.data import ImageTransform
from depthtok.errors import ConfigError, WeightsError, did_you_mean
from depthtok.meaning import UNKNOWN, Column, Meaning
from depthtok.orientation import Orientation
from depthtok.stores.agreement import GripperChange, require_gripper, stated
from vla.config import Config
from vla.data import tokenizer
from vla.data.normalise import Norms
from vla.model import lora
from vla.model.batch import Guided, Observation
from vla.model.model import QDepthVLA
from vla.serving import fields, rows, sampling
from vla.serving.graph import CapturedGraph
from vla.serving.running import Running, cast
from vla.training import checkpoint, restoring


class Policy:
    """A policy that runs `model` with the normalisation `norms`; `reader` replaces the tokenizer
    named in the settings. It takes the model over, and may change its weights as `running` says.
    One instance serves one robot at a time; or several, in turns or `running.batch` at once, each
    with a `generator` of its own."""

    path: Path | None = None  # the checkpoint that it was loaded from
    averaged: bool = False  # whether its weights are the moving average that lies there
    dataset: str | None = None  # in whose units it acts; None: there is only one in its run
    meaning: Meaning | None = None  # of its actions and states; None: the run does not say
    orientations: Mapping[str, Orientation] = {}  # it learnt from, by camera, as far as is known
    change: GripperChange | None = None  # of its actions, for a robot of another convention

    def __init__(
        self,
        model: QDepthVLA,
        config: Config,
        norms: Norms,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
        running: Running | None = None,
        reader: tokenizer.Tokenizer | None = None,
    ) -> None:
        self.config, self.norms, self.device = config, norms, torch.device(device)
        self.running = (running or Running()).on(self.device, config.model)
        self._tokenizer = reader or tokenizer.load(config.data.tokenizer, config.model.vocabulary)
        size = config.model.vision.image_size
        self._door = ImageTransform(size=(size, size))
        self._sample = self._prepared(model.eval())
        self.reset(seed)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        dataset: str | None = None,
        device: torch.device | str = "cpu",
        averaged: bool = True,
        seed: int = 0,
        **running: Any,
    ) -> Policy:
        """The policy of a run (its newest checkpoint) or of one checkpoint.

        `dataset` is the data set in whose units to act, if there were several in training;
        `averaged` uses the moving average of the weights if the checkpoint has one; the others are
        those of `Running`: `precision`, `sampler`, `cuda_graph`, `batch`. Raises `WeightsError`
        for an incomplete checkpoint, `ConfigError` for an unknown data set.
        """
        folder = checkpoint.find(path)
        config, state = checkpoint.read_config(folder), checkpoint.read_state(folder)
        chosen = Running(**running).on(torch.device(device), config.model)
        cast_first = chosen.dtype != torch.float32  # before it takes GPU memory
        model = load_model(folder, "cpu" if cast_first else device, averaged=averaged)
        norms = _choose(state.norms, dataset, folder)
        name = dataset or next(iter(state.norms))
        reader = checkpoint.read_tokenizer(folder)
        policy = cls(model, config, norms, device=device, seed=seed, running=chosen, reader=reader)
        policy.path, policy.meaning = folder, seen(state.meanings.get(name), config)
        policy.orientations = state.orientations.get(name, {})
        policy.dataset = name if len(state.norms) > 1 else None
        policy.averaged = averaged and checkpoint.has(folder, checkpoint.AVERAGE)
        return policy

    def speak(self, gripper: str, own: str | None = None) -> None:
        """Acts in this gripper convention from now on. `own` states the policy's convention, where
        its run does not. Raises `ConfigError` where neither does, or one is none."""
        require_gripper(gripper, "the robot's gripper")
        self.state(own)
        if self.meaning is None or (
            self.meaning.gripper == UNKNOWN and self.meaning.gripper_columns
        ):
            raise ConfigError(
                "the run does not say what its gripper's numbers mean",
                remedy="state it with --policy-gripper, as the schema of its training data should",
            )
        self.change = GripperChange.of(self.meaning, gripper)

    def state(self, gripper: str | None) -> None:
        """States what its gripper's numbers mean, where its run does not: in the columns that were
        not normalised."""
        keep = self.norms.action.keep
        names = ["gripper" if n in keep else f"{n}" for n in range(self.config.model.action_dim)]
        nameless = Meaning(tuple(map(Column, names)), ())
        self.meaning = stated(self.meaning, gripper, nameless)

    @property
    def cameras(self) -> tuple[str, ...]:
        """The names of the cameras that it looks at."""
        return tuple(self.config.data.cameras)

    @property
    def spoken(self) -> Meaning | None:
        """What the actions of `act` mean: `meaning`, with the gripper converted."""
        if self.meaning is None or self.change is None:
            return self.meaning
        return replace(self.meaning, gripper=self.change.target)

    def reset(self, seed: int = 0) -> None:
        """Restarts the noise: the same observations then give the same actions."""
        self._seed = seed
        self._generator = self.generator()

    def generator(self) -> torch.Generator:
        """Noise of its own for one of several robots; it begins like the policy's."""
        return torch.Generator().manual_seed(self._seed)

    def act(
        self, observation: Mapping[str, Any], generator: torch.Generator | None = None
    ) -> Float32[np.ndarray, "C A"]:
        """A chunk of actions for one observation: `images` (uint8 [H W 3] by camera name),
        `proprio` (float [P], absent where the model takes none), `instruction`. The noise comes
        from `generator`, or from the policy's own.

        Raises a `ConfigError` that starts with the name of the bad field: `images/main`.
        """
        return self.acts([self.observe([observation])], [generator or self._generator])[0]

    def acts(
        self, seen: Sequence[Observation], generators: Sequence[torch.Generator]
    ) -> list[Float32[np.ndarray, "C A"]]:
        """A chunk for each of up to `running.batch` observations (of one row) in one pass. A pass
        is always as wide as that, so that no answer depends on how many are asked for."""
        model, count = self.config.model, len(seen)
        noise = [torch.randn(1, model.chunk, model.action_dim, generator=g) for g in generators]
        lacking = self.running.batch - count
        batch = rows.joined([*seen, *[seen[-1]] * lacking])
        noise_BCA = torch.cat([*noise, *[noise[-1]] * lacking]).to(self.device)
        with torch.inference_mode(), self.running.arithmetic():
            actions = self._sample(*batch.tensors(), noise_BCA)[:count].float().cpu().numpy()
        chunks = [self.norms.action.undo(chunk) for chunk in actions]
        return [self.change(chunk) for chunk in chunks] if self.change else chunks

    def _prepared(self, model: QDepthVLA) -> Callable[..., Tensor]:
        """Brings the model into the form and to the place in which it runs; returns the function
        of the tensors of observations and noise."""
        running = self.running
        entrance = None if running.sampler == "plain" else sampling.fold(model)
        if running.dtype != torch.float32:
            cast(model, running.dtype)
        self.model, function = model.to(self.device), self._eager
        if entrance is not None:
            compiled = running.sampler == "compiled"
            parts = sampling.compiled() if compiled else sampling.EAGER
            function = sampling.Sampler(self.model, entrance, parts).of_tensors
            function = sampling.in_many_versions(function) if compiled else function
        with torch.inference_mode(), running.arithmetic():
            if running.cuda_graph:
                example = rows.example(self.config.model, running.batch, 0)
                function = CapturedGraph(
                    function, tuple(tensor.to(self.device) for tensor in example)
                )
            if running.batch > 1:
                rows.require_independent(function, self.config.model, running.batch, self.device)
        return function

    def _eager(self, *tensors: Tensor) -> Tensor:
        """Actions [B C A] from the tensors of an observation and noise."""
        *inputs, noise = tensors
        kind = Guided if self.config.model.depth.target == "input" else Observation
        return self.model.sample(kind(*inputs), noise)

    def observe(self, observations: list[Mapping[str, Any]]) -> Observation:
        """Observations as model input, on the model's device."""
        model, cameras = self.config.model, self.config.data.cameras
        images = [
            [self._door.rgb(fields.image(o, camera)[None])[0] for camera in cameras]
            for o in observations
        ]
        texts = [
            tokenizer.prompt(self._tokenizer, fields.text(o), model.max_text) for o in observations
        ]
        proprio = [
            self.norms.proprio.apply(fields.proprio(o, model.proprio_dim))
            if model.proprio_dim
            else np.zeros(0, np.float32)
            for o in observations
        ]
        observation = Observation(
            torch.from_numpy(np.array(images)),
            torch.from_numpy(np.array([tokens for tokens, _ in texts])),
            torch.from_numpy(np.array([valid for _, valid in texts])),
            torch.from_numpy(np.array(proprio, np.float32)),
        )
        if model.depth.target == "input":
            observation = self._guided(observation, observations)
        return observation.to(self.device)

    def _guided(self, seen: Observation, observations: list[Mapping[str, Any]]) -> Guided:
        """With the depth codes that come with the observations."""
        depth = self.config.model.depth
        codes = [
            [
                fields.codes(o, camera, depth.grid, depth.codes).reshape(-1)
                for camera in self.config.data.cameras[: depth.cameras]
            ]
            for o in observations
        ]
        codes_BMK = torch.from_numpy(np.array(codes))
        valid_BM = torch.ones(codes_BMK.shape[:2], dtype=torch.bool)
        return Guided(**vars(seen), depth_BMK=codes_BMK, depth_valid_BM=valid_BM)


def seen(meaning: Meaning | None, config: Config) -> Meaning | None:
    """What a policy knows of its data set's meaning: without states, nothing of these."""
    if meaning is None or config.model.proprio_dim:
        return meaning
    return replace(meaning, proprio=())


def load_model(
    place: Path, device: torch.device | str = "cpu", *, averaged: bool = True
) -> QDepthVLA:
    """The model of a checkpoint, ready for inference; adapters are merged."""
    config = checkpoint.read_config(place)
    tensors = checkpoint.read_tensors(place, "model", str(device))
    if averaged and checkpoint.has(place, checkpoint.AVERAGE):
        tensors |= checkpoint.read_tensors(place, "average", str(device))
    with torch.device("meta"):
        model = QDepthVLA(config.model)
        if config.train.lora_rank:
            lora.add(model, config.train.lora_rank, config.train.lora_alpha, 0)
    restoring.load_weights(model, tensors, str(place))
    lora.merge(model)
    return model.eval()


def _choose(norms: Mapping[str, Norms], dataset: str | None, checkpoint_path: Path) -> Norms:
    if not norms:
        raise WeightsError(
            f"{checkpoint_path} has no normalisation statistics",
            remedy="actions would have no units: use a checkpoint made by `depthtok train-vla`",
        )
    if dataset is None and len(norms) == 1:
        return next(iter(norms.values()))
    if dataset is None or dataset not in norms:
        raise ConfigError(
            f"{checkpoint_path} was trained on {', '.join(norms)}, not on {dataset!r}",
            remedy="name the data set in whose units to act; "
            + did_you_mean(dataset or "", list(norms)),
        )
    return norms[dataset]
