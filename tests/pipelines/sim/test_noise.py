"""Noise on pictures against values that LIBERO-Plus's own code gave (with scipy's filters)."""

import numpy as np
import pytest

from pipelines.sim.noise import noisy

VALUES = {  # of every fiftieth row and sixtieth column, with numpy's generator seeded by [5, 3]
    (14, 224): (
        "22 11 120 91 11 150 159 11 104 228 11 135 22 68 142 122 58 67 181 51 84 228 68 "
        "112 22 125 110 148 78 105 199 41 31 228 125 145 22 182 141 91 182 80 159 182 174 "
        "228 182 112 22 239 120 91 239 149 159 239 104 228 239 134"
    ),
    (24, 224): (
        "32 21 126 94 21 154 156 21 101 218 21 126 32 73 91 200 40 30 200 40 30 218 73 "
        "165 32 124 183 200 40 30 200 40 30 218 124 70 32 176 91 94 176 75 156 176 178 "
        "218 176 164 32 228 125 94 228 153 156 228 102 218 228 127"
    ),
    (34, 256): (
        "141 138 173 135 111 163 172 128 155 208 145 188 140 154 184 197 144 140 189 135 "
        "132 195 148 162 155 185 181 175 122 118 132 78 75 199 169 185 138 185 182 120 "
        "146 110 113 120 134 186 172 153 125 188 157 117 160 145 153 177 137 192 195 172"
    ),
    (44, 224): (
        "19 9 115 89 10 157 157 9 113 226 10 128 21 65 146 97 63 80 173 55 110 226 66 123 "
        "20 123 85 129 91 145 199 40 30 226 122 136 21 181 149 88 179 40 157 179 198 227 "
        "179 109 20 237 105 89 237 178 158 237 73 227 236 142"
    ),
}


def picture(side):
    y, x = np.mgrid[:side, :side]
    waves = 128 + 100 * np.sin(x / 7) * np.cos(y / 5)
    frame = np.stack([x * 255 / (side - 1), y * 255 / (side - 1), waves], -1).astype(np.uint8)
    frame[60:120, 80:150] = [200, 40, 30]
    return frame


@pytest.mark.parametrize(("number", "side"), VALUES)
def test_the_published_noise(number, side):
    expected = np.array(VALUES[number, side].split(), int)
    seen = noisy(picture(side), number, [5, 3])[10::50, 20::60].reshape(-1).astype(int)
    assert np.abs(seen - expected).max() <= 2


@pytest.mark.parametrize("kind", range(5))
def test_levels_grow_and_repeat(kind):
    frame = picture(64)
    changed = []
    for level in (1, 10):
        first, again = (noisy(frame, 10 * kind + level, [1]) for _ in range(2))
        assert np.array_equal(first, again)
        changed.append(np.abs(first.astype(int) - frame).mean())
    assert min(changed) > 0.5
    assert changed[0] < changed[1] or kind == 4  # glass: published levels grow in one number only


def test_motion_goes_one_way_and_keeps_the_light():
    frame = np.zeros((65, 65, 3), np.uint8)
    frame[32, 32] = 250
    blurred = noisy(frame, 5, [2]).astype(float)[..., 0]
    rows, columns = np.nonzero(blurred)
    assert columns.max() == 32  # what lies to the right moves over it
    assert 8 < 32 - columns.min() <= 30
    assert np.abs(rows - 32).max() <= 30
    assert 150 < blurred.sum() <= 250
