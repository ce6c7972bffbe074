"""What the speed scripts of depth networks share: two ways of estimating one clip, alternately."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from depthtok.data import DepthBlock


def compared(
    plain: Callable[[], np.ndarray],
    ours: Callable[[], Iterable[DepthBlock]],
    rounds: int,
    scale: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> dict:
    """Runs both `rounds` times, in turns, so that load slows both: the median CPU seconds of each,
    their ratio, and the largest difference of their depth on a `scale`."""
    seconds: dict[str, list[float]] = {"plain": [], "depthtok": []}
    for _ in range(rounds):
        started = time.process_time()
        expected = plain()
        middle = time.process_time()
        blocks = list(ours())
        seconds["plain"].append(middle - started)
        seconds["depthtok"].append(time.process_time() - middle)
    depth = np.concatenate([block.depth.values for block in blocks])
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    return {
        "seconds": medians,
        "ratio": medians["plain"] / medians["depthtok"],
        "largest_difference": float(np.abs(scale(depth) - scale(expected)).max()),
    }


def say(rows: Sequence[dict], *, as_json: bool, difference: str = "difference") -> None:
    """Prints the rows: as JSON, or a line each."""
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        seconds = ", ".join(f"{way} {value:.2f}" for way, value in row["seconds"].items())
        print(
            f"{row['network']} {row['input_size']} px, {row['frames']} frames: {row['ratio']:.2f}x "
            f"(largest {difference} {row['largest_difference']:.1e}) CPU-seconds {seconds}"
        )
