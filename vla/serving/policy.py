"""A trained model as a policy: images, proprioception and an instruction in, actions out.

    policy = Policy.load("runs/bridge")
    actions = policy.act({"images": {"main": frame}, "proprio": state, "instruction": "open it"})

Actions are in the data set's own units; `policy.meaning` says which. Images and instruction are
encoded once per observation; the Euler steps reuse their keys and values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from depthtok.data import ImageTransform
from depthtok.errors import ConfigError, WeightsError, did_you_mean
from depthtok.meaning import UNKNOWN, Column, Meaning
from depthtok.stores.agreement import GripperChange, require_gripper, stated
from vla.config import Config
from vla.data import tokenizer
from vla.data.normalise import Norms
from vla.model import lora
from vla.model.batch import Observation
from vla.model.flops import meta_batch
from vla.model.model import QDepthVLA
from vla.serving.graph import Graphed
from vla.training import checkpoint


class Policy:
    """A policy that runs `model` with the normalisation `norms`; `reader` replaces the tokenizer
    named in the settings. One instance serves one robot at a time; or several in turns, each with a
    `generator` of its own."""

    place: Path | None = None  # the checkpoint that it was loaded from
    meaning: Meaning | None = None  # of its actions and states; None: the run does not say
    change: GripperChange | None = None  # of its actions, for a robot of another convention

    def __init__(
        self,
        model: QDepthVLA,
        config: Config,
        norms: Norms,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
        cuda_graph: bool = False,
        reader: tokenizer.Tokenizer | None = None,
    ) -> None:
        self.model, self.config, self.norms = model.to(device).eval(), config, norms
        self.device = torch.device(device)
        self._tokenizer = reader or tokenizer.load(config.data.tokenizer, config.model.vocabulary)
        size = config.model.vision.image_size
        self._door = ImageTransform(size=(size, size))
        self._sample = self._graphed() if cuda_graph else self._eager
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
        cuda_graph: bool = False,
    ) -> Policy:
        """The policy of a run (its newest checkpoint) or of one checkpoint.

        `dataset` is the data set in whose units to act, if there were several in training;
        `averaged` uses the moving average of the weights if the checkpoint has one; `cuda_graph`
        runs the model as one CUDA graph. Raises `WeightsError` for an incomplete checkpoint,
        `ConfigError` for an unknown data set.
        """
        place = checkpoint.find(path)
        config, state = checkpoint.read_config(place), checkpoint.read_state(place)
        model = load_model(place, device, averaged=averaged)
        norms = _choose(state.norms, dataset, place)
        name = dataset or next(iter(state.norms))
        reader = checkpoint.read_tokenizer(place)
        policy = cls(
            model, config, norms, device=device, seed=seed, cuda_graph=cuda_graph, reader=reader
        )
        policy.place, policy.meaning = place, seen(state.meanings.get(name), config)
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
        seen = self.observe([observation])
        model = self.config.model
        noise = torch.randn(
            1, model.chunk, model.action_dim, generator=generator or self._generator
        )
        with torch.inference_mode():
            actions = self._sample(*seen.tensors(), noise.to(self.device))
        made = self.norms.action.undo(actions[0].float().cpu().numpy())
        return self.change(made) if self.change else made

    def _eager(self, *tensors: Tensor) -> Tensor:
        """Actions [B C A] from the tensors of an observation and noise."""
        *seen, noise = tensors
        return self.model.sample(Observation(*seen), noise)

    @torch.inference_mode()
    def _graphed(self) -> Graphed:
        """The same as one CUDA graph: shapes are the same in every call."""
        seen = meta_batch(self.config.model).tensors()[: len(fields(Observation))]
        noise = torch.empty(1, self.config.model.chunk, self.config.model.action_dim)
        example = tuple(torch.zeros_like(like, device=self.device) for like in (*seen, noise))
        return Graphed(self._eager, example)

    def observe(self, observations: list[Mapping[str, Any]]) -> Observation:
        """Observations as model input, on the model's device."""
        model, cameras = self.config.model, self.config.data.cameras
        images = [
            [self._door.rgb(_image(o, camera)[None])[0] for camera in cameras] for o in observations
        ]
        texts = [tokenizer.prompt(self._tokenizer, _text(o), model.max_text) for o in observations]
        proprio = [
            self.norms.proprio.apply(_proprio(o, model.proprio_dim)) if model.proprio_dim else []
            for o in observations
        ]
        seen = Observation(
            torch.from_numpy(np.array(images)),
            torch.from_numpy(np.array([tokens for tokens, _ in texts])),
            torch.from_numpy(np.array([valid for _, valid in texts])),
            torch.from_numpy(np.array(proprio, np.float32)),
        )
        return seen.to(self.device)


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
    if averaged and (place / "average.safetensors").is_file():
        tensors |= checkpoint.read_tensors(place, "average", str(device))
    with torch.device("meta"):
        model = QDepthVLA(config.model)
        if config.train.lora_rank:
            lora.add(model, config.train.lora_rank, config.train.lora_alpha, 0)
    checkpoint.load_weights(model, tensors, str(place))
    lora.merge(model)
    return model.eval()


def _choose(norms: Mapping[str, Norms], dataset: str | None, place: Path) -> Norms:
    if not norms:
        raise WeightsError(
            f"{place} has no normalisation statistics",
            remedy="actions would have no units: use a checkpoint made by `depthtok train-vla`",
        )
    if dataset is None and len(norms) == 1:
        return next(iter(norms.values()))
    if dataset not in norms:
        raise ConfigError(
            f"{place} was trained on {', '.join(norms)}, not on {dataset!r}",
            remedy="name the data set in whose units to act; "
            + did_you_mean(dataset or "", list(norms)),
        )
    return norms[dataset]


def _field(observation: Mapping[str, Any], name: str) -> Any:
    if not isinstance(observation, Mapping):
        raise ConfigError(
            f"the observation has type {type(observation).__name__}",
            remedy="give a map of `images`, `instruction` and `proprio`",
        )
    if name not in observation:
        raise ConfigError(f"{name} is missing", remedy="include it in every observation")
    return observation[name]


def _array(value: Any, name: str, dtype: type | None = None) -> np.ndarray:
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # infinite, and refused where it matters
            return np.asarray(value, dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"{name} has type {type(value).__name__}, not an array",
            remedy="give numbers, all rows of one length",
        ) from error


def _image(observation: Mapping[str, Any], camera: str) -> UInt8[np.ndarray, "H W 3"]:
    images, name = _field(observation, "images"), f"images/{camera}"
    if not isinstance(images, Mapping):
        raise ConfigError(
            f"images has type {type(images).__name__}", remedy="give a map: images by camera name"
        )
    if camera not in images:
        raise ConfigError(
            f"{name} is missing", remedy=did_you_mean(camera, [str(each) for each in images])
        )
    image = _array(images[camera], name)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ConfigError(
            f"{name} is {image.dtype} {image.shape}",
            remedy="give uint8 [height, width, 3], as published in the data set",
        )
    return image


def _text(observation: Mapping[str, Any]) -> str:
    text = _field(observation, "instruction")
    if not isinstance(text, str):
        raise ConfigError(f"instruction has type {type(text).__name__}", remedy="give text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"instruction is not valid text: {error}", remedy="give text") from error
    return text


def _proprio(observation: Mapping[str, Any], width: int) -> np.ndarray:
    values = _array(_field(observation, "proprio"), "proprio", np.float32)
    if values.shape != (width,) or not np.isfinite(values).all():
        raise ConfigError(
            f"proprio has shape {values.shape}, or is not finite",
            remedy=f"give {width} numbers, ordered as in the data set",
        )
    return values
