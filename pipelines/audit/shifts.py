"""What is shifted over a camera's clips: the picture by pixels, or metric disparity by a constant.

Depth that is known up to scale and shift may have any shift of disparity, and the alignment takes
it away. In metres there must be none: 1/z of the truth is then the estimate's times a factor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pipelines.audit.audit import ClipAudit

SHARE = 0.1  # of the mean true disparity: a smaller shift is what errors of depth make
MOST = 0.5  # share of the clips that must show an offset


def moved_pictures(clips: Sequence[ClipAudit]) -> Iterator[str]:
    """The finding that most clips of a camera are shifted by about the same number of pixels."""
    offsets = [clip.offset for clip in clips if clip.offset is not None]
    clear = [offset for offset in offsets if offset.clear]
    if not clear or len(clear) <= MOST * len(offsets):
        return
    right, down = (int(np.median([getattr(o, name) for o in clear])) for name in ("right", "down"))
    near = [o for o in clear if max(abs(o.right - right), abs(o.down - down)) <= 1]
    if len(near) <= MOST * len(offsets):
        return
    fit = np.median([offset.correlation for offset in near])
    as_is = np.median([offset.as_is for offset in near])
    yield (
        f"in {len(near)} of {len(clips)} clips the estimate is shifted by {near[0]} against the "
        f"truth: a crop or a border that only one of them has (correlation of the steps "
        f"{fit:.2f}; as is {as_is:.2f})"
    )


def shifted_disparity(clips: Sequence[ClipAudit]) -> Iterator[str]:
    """The note that metric estimates have a shift of disparity, in units of 1/m of the truth.

    Errors of the estimate alone make a least-squares shift of up to 1 - R2 of the mean.
    """
    metric = [clip for clip in clips if clip.metric and clip.fit.mean > 0]
    shares = [clip.fit.shift / clip.fit.mean for clip in metric]
    far = [s for s, clip in zip(shares, metric, strict=True) if abs(s) > SHARE + 1 - clip.r2]
    if metric and len(far) > MOST * len(metric):
        share = float(np.median(far))
        yield (
            f"in {len(far)} of {len(metric)} clips 1/z of the estimate is shifted: the truth's is "
            f"a factor of it and {share:+.0%} of its mean. Depth in metres has no such shift; "
            "relative depth or disparity that was read as metres has"
        )
