"""The closed form against the chain it stands for, and against what upstream was seen to do."""

import pytest

from pipelines.depth.windows.plan import plan, window_count, window_frames

LENGTHS = [*range(1, 80), 200, 201, 1000]


def chain(frames):
    """Windows as upstream walks: each takes two keyframes and the tail from the one before."""
    rows = [[min(i, frames - 1) for i in range(32)]]
    while 22 * len(rows) < frames:
        before, start = rows[-1], 22 * len(rows)
        fresh = [min(i, frames - 1) for i in range(start + 10, start + 32)]
        rows.append([rows[0][0], before[12], *before[24:], *fresh])
    return rows


def test_windows_equal_the_reference(golden):
    for frames, rows in golden("plan.json").items():
        assert [list(window_frames(k, int(frames))) for k in range(len(rows))] == rows


@pytest.mark.parametrize("align", [True, False])
def test_plan_equals_the_chain(align):
    for frames in LENGTHS:
        windows = list(plan(frames, align=align))
        rows = chain(frames)
        assert len(windows) == window_count(frames) <= len(rows)
        assert [list(window.frames) for window in windows] == rows[: len(windows)]


@pytest.mark.parametrize("align", [True, False])
def test_every_frame_is_fresh_once_final_once_and_at_hand_when_seen(align):
    for frames in LENGTHS:
        fresh, final, held = [], [], set()
        for window in plan(frames, align=align):
            fresh += range(*window.fresh)
            final += range(*window.final)
            held |= set(range(*window.fresh))
            assert set(window.frames) <= held
            assert set(window.carried) <= held
            held = set(window.carried)
            assert len(held) <= 10
        assert fresh == final == list(range(frames))


def test_needed_slots_are_those_with_weight():
    for frames in LENGTHS:
        windows = list(plan(frames, align=False))
        for window in windows:
            used = set()
            for slot, frame in enumerate(window.frames):
                if window.index and slot < 2:
                    continue
                blended_in = window.index and slot == 2  # weight 0
                blended_out = not window.last and slot == 31  # weight 0
                real = 22 * window.index + slot < frames
                if real and frame < frames and not blended_in and not blended_out:
                    used.add(slot)
            assert set(window.needed) == used
        aligned = list(plan(frames, align=True))
        assert all(
            set(w.needed) - set(v.needed) == {0, 1}
            for v, w in zip(windows[1:], aligned[1:], strict=True)
        )
