"""What encoding leaves behind in the process that does it."""

import os
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipelines.export.clips import rgb_codec, write_clip
from pipelines.export.config import ExportConfig


@pytest.mark.skipif(sys.platform != "linux", reason="threads are listed in /proc on Linux alone")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root's threads are made real-time by SVT-AV1")
def test_no_thread_becomes_a_real_time_one(tmp_path):
    policies: list[int] = []

    def frames() -> Iterator[np.ndarray]:
        for number in range(3):
            yield np.full((64, 64, 3), 40 * number, np.uint8)
            threads = [int(task.name) for task in Path("/proc/self/task").iterdir()]
            policies.extend(os.sched_getscheduler(thread) for thread in threads)

    assert os.sched_getscheduler(0) == os.SCHED_OTHER
    write_clip(tmp_path / "clip.mp4", frames(), Fraction(10), rgb_codec(ExportConfig()))
    assert len(policies) > 10  # the encoder's own threads are among them
    assert not {os.SCHED_FIFO, os.SCHED_RR} & {*policies}  # Mesa's threads are SCHED_BATCH
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
