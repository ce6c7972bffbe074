"""Samples to train on: episodes and codes joined by key, one sample a time step.

`Dataset` is a map: number -> sample. `SampleOrder` is the endless, shuffled order of all numbers,
epoch after epoch; a position in it is all that a resumed run needs. `vla/data/loader.py` fills
batches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
from jaxtyping import Bool, Int64

from depthtok.data import Episode
from depthtok.errors import ConfigError
from depthtok.meaning import Meaning
from depthtok.orientation import Orientation
from depthtok.required import require
from depthtok.shuffle import Permutation
from vla.config import Config
from vla.data.augment import WHOLE, Box, photometric
from vla.data.crops import DepthCrops
from vla.data.member import Member
from vla.data.normalise import Norms
from vla.data.tokenizer import Tokenizer, prompt
from vla.model.batch import Batch

SCATTERED = "scattered"
"""How a data set whose weight is no whole number is drawn from: by a random order of its steps."""
BEFORE = ""
"""Trainings that record no rule draw them as they are stored, the first ones in the first epoch."""
SCATTER_SEED = 7_105_917  # the same for every training, as which episodes are held out is
PROMPTS = 4096  # kept as tokens
COUNTED = 20_000  # samples of which codes are counted


class Dataset:
    """All samples of a mixture: number -> sample, written into the rows of given arrays.

    With `augment`, pictures are changed as the settings say: for training, not for validation.
    `held_out` says that the episodes are the held-out ones, for messages. `drawn` is how a part of
    a data set is drawn: `SCATTERED`, or `BEFORE` for runs begun by it. Raises `ConfigError`
    where cameras, tokenizer, weights or depth do not fit the settings, and where a sample is
    missing.
    """

    def __init__(
        self,
        members: Sequence[Member],
        config: Config,
        tokenizer: Tokenizer,
        *,
        augment: bool = True,
        held_out: bool = False,
        drawn: str = SCATTERED,
    ) -> None:
        if not members:
            raise ConfigError("no data set to train on")
        if len(config.data.cameras) != config.model.cameras:
            raise ConfigError(
                f"data.cameras names {len(config.data.cameras)}, the model sees"
                f" {config.model.cameras}",
                remedy="list the cameras to use, those with codes first",
            )
        if tokenizer.size > config.model.vocabulary:
            raise ConfigError(
                f"the tokenizer {tokenizer.name} needs {tokenizer.size} rows of the embedding, the "
                f"model has {config.model.vocabulary}",
                remedy=f"set model.vocabulary = {tokenizer.size} (or all the rows of the weights), "
                "or data.tokenizer to the model's own",
            )
        for member in members:
            positive = 0 < member.weight < math.inf
            require(positive, f"weight of {member.name}", member.weight, "give a number above 0")
        self.members, self.config, self.tokenizer = tuple(members), config, tokenizer
        self._prompt = lru_cache(PROMPTS)(partial(prompt, tokenizer, length=config.model.max_text))
        self._photometric = config.data.photometric if augment else 0.0
        self._crop = config.data.crop if augment else 1.0
        self._draws = augment and config.data.instruction == "draw"
        crops = [m.codes for m in members if isinstance(m.codes, DepthCrops)]
        self._crops: DepthCrops | None = crops[0] if crops else None
        if self._crop < 1:
            self._require_depth()
        for member in members:
            self._require_samples(member, held_out=held_out)
        self._ends = [np.cumsum(m.episodes.lengths[m.episodes_used]) for m in members]
        self.sizes = [int(ends[-1]) for ends in self._ends]
        counts = [
            max(1, round(size * m.weight)) for m, size in zip(members, self.sizes, strict=True)
        ]
        self._bounds = np.cumsum(counts)
        self._orders = [
            Permutation(size, SCATTER_SEED) if drawn == SCATTERED and count % size else None
            for count, size in zip(counts, self.sizes, strict=True)
        ]

    def _require_samples(self, member: Member, *, held_out: bool) -> None:
        lengths = member.episodes.lengths[member.episodes_used]
        ahead = self.config.model.depth.future if self.config.model.depth.supervised else 0
        if not len(lengths):
            raise ConfigError(f"{member.name} has no episode to use", remedy="check its stores")
        if ahead >= lengths.max():
            which = f"of the {len(lengths)} held-out episodes" if held_out else "episode"
            raise ConfigError(
                f"model.depth.future = {ahead}, and {'none' if held_out else 'no'} {which} of "
                f"{member.name} has more than {lengths.max()} steps",
                remedy="hold out more (--held-out), or lower model.depth.future"
                if held_out
                else "lower model.depth.future",
            )

    def _require_depth(self) -> None:
        """Raises `ConfigError` where there is no depth to cut crops from."""
        for member in self.members:
            if member.codes is not None and not isinstance(member.codes, DepthCrops):
                raise ConfigError(
                    f"the depth targets of {member.name} describe whole images, not crops",
                    remedy="give --depth and --codebook in place of --codes (with the targets "
                    "codes and latents), or set data.crop = 1",
                )

    def __len__(self) -> int:
        """Samples of an epoch."""
        return int(self._bounds[-1])

    def norms(self) -> dict[str, Norms]:
        """How each data set is normalised."""
        return {m.name: m.norms for m in self.members}

    def meanings(self) -> dict[str, Meaning]:
        """What the numbers of each data set's samples mean."""
        return {m.name: m.meaning for m in self.members}

    def orientations(self) -> dict[str, dict[str, Orientation]]:
        """How the pictures of each data set are published, by the model's cameras."""
        return {m.name: m.orientations(self.config.data.cameras) for m in self.members}

    def sources(self) -> Iterator[tuple[Member, int]]:
        """The data sets, and how many samples each has."""
        return zip(self.members, self.sizes, strict=True)

    def fields(self) -> dict[str, tuple[tuple[int, ...], type]]:
        """Shape and dtype of every array of a sample, named as in `Batch`."""
        model = self.config.model
        size, depth = model.vision.image_size, model.depth
        codes = (depth.cameras, depth.grid**2) if depth.uses_depth else (0, 0)
        if self._crops is not None:
            codes = (depth.cameras, math.prod(self._crops.size))
        floats = depth.target == "pixels" or self._crops is not None
        return {
            "images_BIHW3": ((model.cameras, size, size, 3), np.uint8),
            "text_BL": ((model.max_text,), np.int64),
            "text_valid_BL": ((model.max_text,), np.bool_),
            "proprio_BP": ((model.proprio_dim,), np.float32),
            "actions_BCA": ((model.chunk, model.action_dim), np.float32),
            "action_valid_BC": ((model.chunk,), np.bool_),
            "depth_BMK": (codes, np.float32 if floats else np.uint8),
            "depth_valid_BM": (codes[:1], np.bool_),
        }

    def place(self, number: int, epoch: int = 0) -> tuple[int, int, int]:
        """Member, its episode and the step of a sample."""
        which = int(np.searchsorted(self._bounds, number, side="right"))
        start = int(self._bounds[which - 1]) if which else 0
        drawn = int(self._bounds[which]) - start
        step = (number - start + epoch * drawn) % self.sizes[which]
        if (order := self._orders[which]) is not None:
            step = order[step]
        row = int(np.searchsorted(self._ends[which], step, side="right"))
        before = int(self._ends[which][row - 1]) if row else 0
        return which, int(self.members[which].episodes_used[row]), step - before

    def key(self, number: int, epoch: int = 0) -> str:
        """The episode that a sample is of."""
        which, index, _ = self.place(number, epoch)
        return str(self.members[which].episodes.episode(index).key)

    def instruction(self, number: int, epoch: int = 0) -> str:
        """What the robot is told in a sample."""
        which, index, step = self.place(number, epoch)
        return self.members[which].episodes.episode(index).instruction(step)

    def instructions(self, most: int) -> list[str]:
        """Different instructions of the stores, whether used here or not: the first steps' of at
        most `most` episodes of each, spread over it."""
        texts = set()
        for episodes in (member.episodes for member in self.members):
            count = len(episodes.lengths)
            for index in np.linspace(0, count - 1, min(count, most)).astype(int).tolist():
                if episodes.lengths[index]:
                    texts.add(episodes.episode(index).instruction(0))
        return sorted(texts)

    def tokens(self, instruction: str) -> tuple[Int64[np.ndarray, " L"], Bool[np.ndarray, " L"]]:
        """An instruction as the model reads it, and which of its tokens are real."""
        return self._prompt(instruction)

    def fill(self, row: Mapping[str, np.ndarray], number: int, epoch: int, seed: int) -> None:
        """Writes sample `number` into `row`: one array a field, in the shapes of `fields`."""
        which, index, step = self.place(number, epoch)
        member = self.members[which]
        episode = member.episodes.episode(index)
        rng = np.random.default_rng((seed, epoch, number))
        boxes = [
            Box.draw(self._crop, rng) if self._crop < 1 else WHOLE for _ in self.config.data.cameras
        ]
        for camera_index, camera in enumerate(member.cameras):
            image = row["images_BIHW3"][camera_index]
            if episode.absent(camera):
                image[:] = 0
                continue
            if member.frames is not None and boxes[camera_index] == WHOLE:
                member.frames.read_into(image, index, step, camera_index)
            else:
                frames = episode.frames(camera).read(step, step + 1)
                image[:] = self._picture(frames, boxes[camera_index])
            if self._photometric:
                image[:] = photometric(image, self._photometric, rng)
        text = episode.instruction(step)
        if self._draws and len(texts := episode.instructions(step)) > 1:
            text = texts[int(rng.integers(len(texts)))]
        row["text_BL"][:], row["text_valid_BL"][:] = self._prompt(text)
        if self.config.model.proprio_dim:
            row["proprio_BP"][:] = member.norms.proprio.apply(episode.proprio[step])
        self._fill_actions(row, member, episode, step)
        if self.config.model.depth.uses_depth:
            self._fill_codes(row, member, episode, step, boxes)

    def _picture(self, frames: np.ndarray, box: Box) -> np.ndarray:
        """The one frame, or its crop, as the model sees it."""
        size = self.config.model.vision.image_size
        return box.transform(frames.shape[1:3], (size, size)).rgb(frames)[0]

    def _fill_actions(
        self, row: Mapping[str, np.ndarray], member: Member, episode: Episode, step: int
    ) -> None:
        """The next actions; after the end the last one again, marked as not valid."""
        chunk = self.config.model.chunk
        steps = np.arange(step, step + chunk)
        row["action_valid_BC"][:] = steps < len(episode)
        actions = episode.action[np.minimum(steps, len(episode) - 1)]
        actions = member.change(actions) if member.change else actions
        row["actions_BCA"][:] = member.norms.action.apply(actions)

    def _fill_codes(
        self,
        row: Mapping[str, np.ndarray],
        member: Member,
        episode: Episode,
        step: int,
        boxes: Sequence[Box],
    ) -> None:
        """The codes of this frame, or of one ahead; not valid where that lies after the end, and
        of a camera that the episode does not have."""
        ahead = step + self.config.model.depth.future
        row["depth_valid_BM"][:] = ahead < len(episode)
        ahead, codes = min(ahead, len(episode) - 1), member.require_codes()
        for camera_index in range(self.config.model.depth.cameras):
            camera = member.cameras[camera_index]
            if isinstance(codes, DepthCrops):
                image = codes.image(episode.key, camera, ahead, boxes[camera_index])
            else:
                grid = codes.find_grid(episode.key, camera)
                image = None if grid is None else grid.codes[ahead]
            row["depth_valid_BM"][camera_index] &= image is not None
            row["depth_BMK"][camera_index] = 0 if image is None else image.reshape(-1)

    def code_counts(self, samples: int = COUNTED) -> Int64[np.ndarray, "M P K"]:
        """How often each position of each camera has each code, over `samples` of the samples, at
        even distances; targets after an episode's end are not counted. Raises `ConfigError` where
        no codes are stored."""
        depth = self.config.model.depth
        if not depth.supervised or self._crops is not None:
            raise ConfigError(
                "depth.prior counts stored codes", remedy="give --codes, or set it to false"
            )
        counts = np.zeros((depth.cameras, depth.grid**2, depth.codes), np.int64)
        positions = np.arange(depth.grid**2)
        numbers = np.linspace(0, len(self) - 1, min(samples, len(self))).astype(np.int64)
        for number in numbers.tolist():
            which, index, step = self.place(number)
            member = self.members[which]
            episode, ahead = member.episodes.episode(index), step + depth.future
            if ahead >= len(episode):
                continue
            codes = member.require_codes()
            assert not isinstance(codes, DepthCrops)
            for camera_index, camera in enumerate(member.cameras[: depth.cameras]):
                if (grid := codes.find_grid(episode.key, camera)) is not None:
                    counts[camera_index, positions, grid.codes[ahead].reshape(-1)] += 1
        return counts

    def encoded(self, batch: Batch) -> Batch:
        """A batch on the training's device, its depth as codes where it came as pictures."""
        if self._crops is None:
            return batch
        return replace(batch, depth_BMK=self._crops.codes(batch.depth_BMK))


@dataclass(frozen=True)
class SampleOrder:
    """The order in which samples are drawn, endless: every epoch its own exact shuffle."""

    samples: int  # of an epoch
    seed: int

    def draw(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """(epoch, sample number) at the positions from `start` to `stop`."""
        while start < stop:
            epoch, offset = divmod(start, self.samples)
            count = min(stop - start, self.samples - offset)
            order = Permutation(self.samples, (self.seed, epoch))
            for number in order(np.arange(offset, offset + count)).tolist():
                yield epoch, number
            start += count
