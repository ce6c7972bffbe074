"""What an estimator of another package gives, held against what it promises.

A mistake in somebody else's class must end with its name and a reason. It must not become depth of
another kind, of another clip or of none, and one clip on which it raises must not stop the others.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from depthtok.data import SHIFT, DepthBlock, DepthClip, DepthEstimator, DepthKind, FrameClip
from depthtok.disk.digests import file_sha256
from depthtok.disk.regular import lacks_memory
from depthtok.errors import ConfigError, DepthtokError, SourceError
from pipelines.depth.origin import WeightsOrigin

MEND = "mend that package: depthtok.data.DepthEstimator says what is expected; or uninstall it"


def failure_of(name: str, error: Exception) -> SourceError:
    """What to record of a clip on which the estimator `name` raised `error`. An error that is not
    the clip's (of the system, of memory, of a setting) is raised again."""
    if isinstance(error, SourceError):
        return error
    if isinstance(error, (DepthtokError, OSError)) or lacks_memory(error):
        raise error
    reason = next(iter(str(error).splitlines()), "")
    return SourceError(f"the estimator {name!r} raised {type(error).__name__}: {reason}")


def numbers_of(name: str, answer: object) -> np.ndarray:
    """An array or tensor that a package gave, as float32 that torch takes: row by row in memory,
    and writable. Raises `SourceError` for anything else than real numbers of one shape."""
    if isinstance(answer, Tensor):
        answer = answer.detach().cpu().float().numpy()
    try:
        values = np.asarray(answer)
    except ValueError as error:  # rows of several lengths
        raise SourceError(f"the estimator {name!r} gave depth of no shape: {error}") from None
    if values.dtype.kind not in "fiu":
        raise SourceError(f"the estimator {name!r} gave {values.dtype}; expected float32")
    return np.require(values, np.float32, ["C", "W"])


def sound(depth: DepthClip) -> DepthClip:
    """The same with every value that means nothing invalid, as below 0 or not finite."""
    values = np.asarray(depth.values, np.float32)
    if depth.kind is DepthKind.DISPARITY:
        values = np.where(values >= 0, values, np.float32(np.nan))
    return DepthClip.of(values, depth.kind, depth.valid, depth.shift)


def origin_said(name: str, made: object) -> WeightsOrigin | None:
    """What a class says that its weights are, in words, by an attribute `origin`; None without."""
    said = getattr(made, "origin", None)
    if isinstance(said, WeightsOrigin) or said is None:
        return said
    return WeightsOrigin((name,), f"what its class says: {said}")


class HeldEstimator:
    """An estimator of another package that sees whole clips, by the name that it is offered by.
    Raises `ConfigError` for relative depth without a stated shift."""

    def __init__(
        self,
        name: str,
        estimator: DepthEstimator,
        settings: tuple[tuple[str, str], ...],
        licence: str,
        weights: Path | None,
    ) -> None:
        spec = estimator.spec
        if spec.kind is DepthKind.RELATIVE_DEPTH and SHIFT not in dict(spec.settings):
            raise ConfigError(
                f"the estimator {name!r} gives relative depth, and its spec does not say how 1/z "
                "is made of it",
                remedy='add ("shift", "0.0") to the settings of its spec',
            )
        self.spec = replace(
            spec,
            name=name,
            weights=spec.weights or (file_sha256(weights) if weights else ""),
            licence=spec.licence or licence,
            settings=(*spec.settings, *settings),
        )
        self.origin = origin_said(name, estimator)
        self._estimator = estimator

    @property
    def device(self) -> str:
        return self._estimator.device

    @property
    def degraded(self) -> bool:
        return self._estimator.degraded

    def estimate(self, clips: Iterable[FrameClip]) -> Iterator[DepthBlock]:
        """Its blocks. After an exception the clips that are left are given to it one by one, so
        that the one that it cannot do is the one that fails."""
        clips = list(clips)
        start = yield from self._run(clips, 0)
        for number in range(start, len(clips)):
            yield from self._run(clips[number : number + 1], number)

    def _run(self, clips: Sequence[FrameClip], first: int) -> Generator[DepthBlock, None, int]:
        """The blocks of some clips, the first of which has the number `first`; how many are done.

        Raises `ConfigError` for what is no clip's fault.
        """
        done = frames = 0
        refused = -1  # a clip of which a block was: what else comes of it is passed over
        try:
            for block in self._estimator.estimate(clips):
                if isinstance(block, DepthBlock) and block.clip == refused:
                    continue
                checked = self._checked(block, clips, done, frames)
                refused = done if checked.error and not block.error else refused
                frames += len(checked.depth) if checked.depth is not None else 0
                ended = bool(checked.error) or frames == len(clips[done])
                done, frames = (done + 1, 0) if ended else (done, frames)
                yield replace(checked, clip=first + checked.clip)
        except Exception as error:
            reason = failure_of(self.spec.name, error).problem
            if not frames and len(clips) > 1:
                return done
            yield DepthBlock(first + done, error=reason)
            return done + 1
        for number in range(done, len(clips)):
            came = frames if number == done else 0
            reason = f"{self._who} gave {came} of {len(clips[number])} frames, and no reason"
            yield DepthBlock(first + number, error=reason)
        return len(clips)

    @property
    def _who(self) -> str:
        return f"the estimator {self.spec.name!r}"

    def _checked(
        self, block: object, clips: Sequence[FrameClip], current: int, frames: int
    ) -> DepthBlock:
        """A block of the current clip, of which so many frames came before."""
        if not isinstance(block, DepthBlock):
            raise ConfigError(
                f"{self._who} gave {type(block).__name__}, no DepthBlock", remedy=MEND
            )
        if block.clip != current:
            expected = f"of clip {current}" if current < len(clips) else "no more"
            raise ConfigError(
                f"{self._who} gave a block of clip {block.clip}, not {expected}", remedy=MEND
            )
        if block.error or block.depth is None:
            return DepthBlock(current, error=block.error or f"{self._who} gave no depth")
        depth, clip = block.depth, clips[current]
        if (depth.kind, depth.shift) != (self.spec.kind, self.spec.shift or 0):
            raise ConfigError(
                f"{self._who} says {self.spec.kind} (shift {self.spec.shift or 0:g}), and gave "
                f"{depth.kind} (shift {depth.shift:g})",
                remedy=MEND,
            )
        size, height, width = depth.values.shape[1:], clip.camera.height, clip.camera.width
        if frames + len(depth) > len(clip) or not len(depth):
            count = f"{frames} + {len(depth)} of {len(clip)} frames"
            return DepthBlock(current, error=f"{self._who} gave {count}")
        if height and width and size != (height, width):
            problem = f"gave depth of {list(size)} px for frames of {[height, width]} px"
            return DepthBlock(current, error=f"{self._who} {problem}")
        return DepthBlock(current, sound(depth))
