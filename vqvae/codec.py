"""Encoding and decoding with a codebook: disparity to codes, and codes to disparity.

Codes depend only on the frame, its clip's range and the codebook. Frames go through the encoder in
groups of a fixed size, the last one padded, so that the same kernels run on the same shapes for any
number of frames in a call.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from depthtok.data import DepthClip, DepthKind
from depthtok.disk.regular import require_given
from depthtok.errors import ConfigError, SourceError, WeightsError, as_written
from depthtok.normalisation import Range
from depthtok.stores.codebook import META, WEIGHTS, Codebook
from vqvae.config import NetworkConfig, QuantizerConfig
from vqvae.model.model import Tokeniser
from vqvae.model.search import distances, exact_float32

GROUP = 8  # frames; near the optimum on a CPU core: their activations fit in its cache
GROUP_CUDA = 64
T = TypeVar("T")


@dataclass(frozen=True)
class FrameGroup:
    """A group of frames whose encoding has begun."""

    values: Tensor  # on the host, once `copied`: codes, or the distances to all codes
    grid: tuple[int, ...]  # [group h w]
    copied: torch.cuda.Event | None = None

    def codes(
        self, sticky: float = 0.0, previous: UInt8[np.ndarray, "h w"] | None = None
    ) -> UInt8[np.ndarray, "group h w"]:
        """Waits for the codes; those after the last frame are of padding. See `Codec.encode`."""
        if self.copied is not None:
            self.copied.synchronize()
        values = self.values.numpy()
        return _sticky(values, sticky, previous).reshape(self.grid) if sticky > 0 else values


class Codec:
    """The networks of a codebook directory, for inference."""

    def __init__(self, codebook: Codebook, model: Tokeniser, device: str | torch.device) -> None:
        self.codebook = codebook
        self.device = torch.device(device)
        self.model = model.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]  # not in torch's stub
        self.model.requires_grad_(False)
        cuda = self.device.type == "cuda"
        self.group = GROUP_CUDA if cuda else GROUP
        self._uploads = torch.cuda.Stream(self.device) if cuda else None
        self.has_codes = bool(model.quantizer.initialised)

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> Codec:
        """Open a codebook directory. Raises `WeightsError`, `CorruptPart` as `Codebook.load` does,
        and `WeightsError` if weights and architecture do not match."""
        codebook = Codebook.load(path)
        path = codebook.path
        with as_written(path / META, "train the codebook anew"):
            network = NetworkConfig(**codebook.meta["network"])
            settings = dict(codebook.meta["quantizer"])
            settings["levels"] = tuple(settings["levels"])
            quantizer = QuantizerConfig(**settings)
        model = Tokeniser(network, quantizer, seed=0)
        try:
            state = load_file(path / WEIGHTS)
            state.pop("vectors")
            model.load_state_dict(state, strict=True)
        except (OSError, SafetensorError, KeyError, RuntimeError, TypeError, ValueError) as error:
            require_given(path / WEIGHTS, error)
            raise WeightsError(
                f"the weights in {path} do not match their own description: {error}",
                remedy="retrain the codebook",
            ) from error
        return cls(codebook, model, device)

    def encode(
        self,
        clip: DepthClip,
        bounds: Range,
        *,
        sticky: float = 0.0,
        previous: UInt8[np.ndarray, "h w"] | None = None,
        first: int = 0,
    ) -> UInt8[np.ndarray, "T h w"]:
        """The codes of a run of frames, from number `first` of a clip that has the disparity range
        `bounds`.

        `sticky` > 0 keeps a cell's code of the previous frame (of `previous` for the first) while
        its squared distance is at most (1 + sticky) times the smallest: codes are more stable under
        noisy depth, but then depend on earlier frames. Raises `DepthKindError` for metres,
        `SourceError` for a size other than the codebook's or a frame without valid pixels.
        """
        if not sticky >= 0:
            raise ConfigError(
                f"sticky is {sticky}, but must be at least 0", remedy="0 is off, 0.3 is mild"
            )
        starts = range(0, len(clip), self.group)  # a group's images fit in the cache
        groups = (
            self.begin(
                self.staged([_frames(clip, start, self.group)], bounds, first + start),
                sticky=sticky > 0,
            )
            for start in starts
        )
        codes = np.empty((len(clip), *self.codebook.grid), np.uint8)
        for start, group in zip(starts, one_ahead(groups), strict=True):
            part = codes[start : start + self.group]
            part[:] = group.codes(sticky, previous)[: len(part)]
            previous = part[-1]
        return codes

    def staged(
        self, blocks: Iterable[DepthClip], bounds: Range, first: int = 0
    ) -> Float32[Tensor, "group 1 H W"]:
        """At most a group of frames, which come in blocks, as `prepare` makes them, filled up with
        zeros; for a GPU in memory that it can copy from by itself. Threads may call this, unlike
        `begin`. `first` is the number of the first frame, for errors."""
        group = torch.empty(
            self.group, 1, *self.codebook.size, pin_memory=self._uploads is not None
        )
        end = 0
        for block in blocks:
            images = torch.from_numpy(self.prepare(block, bounds, first + end))
            group[end : end + len(images), 0] = images
            end += len(images)
        group[end:] = 0
        return group

    @torch.inference_mode()
    def begin(self, images: Float32[Tensor, "group 1 H W"], *, sticky: bool = False) -> FrameGroup:
        """Starts to encode a staged group. On a GPU this returns before it is done: copies in and
        out run beside the group before, which is best fetched (`FrameGroup.codes`) after it. Raises
        `ConfigError` where the quantiser never got codes."""
        if not self.has_codes:
            raise ConfigError(
                "this codebook has no codes: its quantiser was never initialised",
                remedy="train it for longer than its warm-up, with a quantiser other than none",
            )
        if self._uploads is None:
            batch = images.to(self.device)
        else:
            with torch.cuda.stream(self._uploads):
                batch = images.to(self.device, non_blocking=True)
            work = torch.cuda.current_stream(self.device)
            work.wait_stream(self._uploads)
            batch.record_stream(work)
        with exact_float32(self.device):
            latents = self.model.encoder(batch)
        quantizer = self.model.quantizer
        values = self._table(latents) if sticky else quantizer.codes(latents).to(torch.uint8)
        if self._uploads is None:
            return FrameGroup(values.cpu(), latents.shape[:3])
        values = values.to("cpu", non_blocking=True)  # into pinned memory
        return FrameGroup(values, latents.shape[:3], work.record_event())

    def _filled(self, images: Float32[np.ndarray, "T H W"]) -> Float32[Tensor, "group 1 H W"]:
        if len(images) < self.group:
            missing = np.zeros((self.group - len(images), *images.shape[1:]), np.float32)
            images = np.concatenate([images, missing])
        return torch.from_numpy(images)[:, None]

    @torch.inference_mode()
    def decode(self, codes: UInt8[np.ndarray, "T h w"]) -> Float32[np.ndarray, "T H W"]:
        """Normalised disparity of a code grid of any size; each code becomes a cell of pixels.
        Raises `SourceError` for a code that is not in the codebook."""
        book = self.model.quantizer.vectors()
        if codes.size and int(codes.max()) >= len(book):
            raise SourceError(
                f"code {int(codes.max())} is not in a codebook of {len(book)} codes",
                remedy="decode with the codebook that made the codes",
            )
        cell = self.codebook.size[0] // self.codebook.grid[0]
        images = np.empty((len(codes), codes.shape[1] * cell, codes.shape[2] * cell), np.float32)
        for start in range(0, len(codes), self.group):
            group = torch.from_numpy(codes[start : start + self.group].astype(np.int64))
            images[start : start + self.group] = self._run_decoder(book[group.to(self.device)])
        return images

    def decode_disparity(
        self, codes: UInt8[np.ndarray, "T h w"], bounds: Range
    ) -> Float32[np.ndarray, "T H W"]:
        """Disparity in the unit of the clip that has the range `bounds`."""
        return self.codebook.normalisation.undo(self.decode(codes), bounds)

    @torch.inference_mode()
    def bypass(self, images: Float32[np.ndarray, "T H W"]) -> Float32[np.ndarray, "T H W"]:
        """Encoder and decoder without the quantiser, to measure the quantisation loss."""
        decoded = np.empty_like(images)
        for start in range(0, len(images), self.group):
            part = images[start : start + self.group]
            with exact_float32(self.device):
                latents = self.model.encoder(self._filled(part).to(self.device))
            latents = self.model.quantizer.unquantised(latents)
            decoded[start : start + self.group] = self._run_decoder(latents)[: len(part)]
        return decoded

    def prepare(
        self, clip: DepthClip, bounds: Range, first: int = 0
    ) -> Float32[np.ndarray, "T H W"]:
        """The encoder's input: normalised disparity with invalid pixels filled. Raises
        `SourceError` for frames of another size, and for valid pixels that are not finite. `first`
        is the number of the first frame, for errors."""
        clip = clip.require(DepthKind.DISPARITY)
        if clip.values.shape[1:] != self.codebook.size:
            raise SourceError(
                f"frames are {clip.values.shape[1:]} px, the codebook takes {self.codebook.size}",
                remedy="annotate at the codebook's size (--size), or train one for this size",
            )
        values = np.asarray(clip.values, np.float32)
        if not np.isfinite(values).all() and not np.isfinite(values[clip.valid]).all():
            raise SourceError(
                "disparity that is marked valid is not finite",
                remedy="mark it invalid: `DepthClip.of` does so",
            )
        images = self.codebook.normalisation.apply(values, bounds, clip.valid)
        return fill_invalid(images, clip.valid, range(first, first + len(images)))

    @torch.no_grad()
    def codes_of(self, images: Float32[Tensor, "T H W"]) -> UInt8[Tensor, "T h w"]:
        """The codes of prepared images (see `prepare`), on the codec's device.

        For training on crops: the last bits of a latent may depend on the number of frames.
        """
        batch = images[:, None].contiguous(memory_format=torch.channels_last)
        with exact_float32(self.device):  # in groups, to leave memory for training
            codes = [
                self.model.quantizer.codes(self.model.encoder(group))
                for group in batch.split(GROUP_CUDA)
            ]
        return torch.cat(codes).to(torch.uint8)

    def _run_decoder(self, vectors: Tensor) -> np.ndarray:
        with exact_float32(self.device):
            return self.model.decoder(vectors)[:, 0].cpu().numpy()

    def _table(self, latents: Tensor) -> Tensor:
        """Squared distances [T cells codes]."""
        points = self.model.quantizer.searched(latents).flatten(1, 2)
        table = distances(points.flatten(0, 1), self.model.quantizer.targets())
        return table.unflatten(0, points.shape[:2]) + points.square().sum(-1, keepdim=True)


def _frames(clip: DepthClip, start: int, number: int) -> DepthClip:
    part = slice(start, start + number)
    return replace(clip, values=clip.values[part], valid=clip.valid[part])


def _sticky(
    table: Float32[np.ndarray, "T n K"], sticky: float, previous: UInt8[np.ndarray, "h w"] | None
) -> UInt8[np.ndarray, "T n"]:
    """The codes of squared distances, each of which keeps its predecessor where that is near."""
    codes = table.argmin(-1)
    before = None if previous is None else previous.reshape(-1).astype(np.int64)
    for frame, chosen in zip(table, codes, strict=True):
        if before is not None:
            cells = np.arange(len(chosen))
            keep = frame[cells, before] <= (1 + sticky) * frame[cells, chosen]
            chosen[keep] = before[keep]
        before = chosen
    return codes.astype(np.uint8)


def one_ahead(items: Iterable[T]) -> Generator[T]:
    """The items, each once the next one is made, so that work on that has begun."""
    waiting: list[T] = []
    for item in items:
        waiting.append(item)
        if len(waiting) > 1:
            yield waiting.pop(0)
    yield from waiting


def fill_invalid(
    images: Float32[np.ndarray, "T H W"],
    valid: Bool[np.ndarray, "T H W"],
    numbers: Sequence[int],
) -> Float32[np.ndarray, "T H W"]:
    """Images with each invalid pixel replaced by the nearest valid one to its left, else to its
    right, else by the nearest row above that has any, else below.

    Local on purpose: a new hole changes only the codes around it. Raises `SourceError` for a frame
    without any valid pixel, by its number in the clip (`numbers`).
    """
    if valid.all():
        return images
    rows = np.any(valid, axis=2)
    if not rows.any(axis=1).all():
        frame = int(np.flatnonzero(~rows.any(axis=1))[0])
        raise SourceError(
            f"frame {numbers[frame]} of the clip has no valid depth pixel",
            remedy="leave this frame's episode out, or annotate it with an estimator",
        )
    columns = _nearest_marked(valid)
    filled = np.take_along_axis(images, columns, axis=2)
    return np.take_along_axis(filled, _nearest_marked(rows)[:, :, None], axis=1)


def _nearest_marked(marked: Bool[np.ndarray, "... n"]) -> Int64[np.ndarray, "... n"]:
    """Along the last axis, the index of the last marked position so far, else of the first one."""
    index = np.where(marked, np.arange(marked.shape[-1]), -1)
    index = np.maximum.accumulate(index, axis=-1)
    return np.where(index < 0, marked.argmax(axis=-1)[..., None], index)
