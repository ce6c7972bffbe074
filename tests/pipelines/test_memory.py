"""What small files with huge pictures may cost: a recorded failure, or depth in bounded memory."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from depthtok.stores.depth import DepthStore
from depthtok.testing import make_rlds
from pipelines.videos import VideoStage

ROOT = Path(__file__).parents[2]
LARGE = 5000 if os.environ.get("DEPTHTOK_DAMAGES") else 2500  # px
MEASURED = """
import re, sys
from pathlib import Path
from depthtok.cli.main import main
sys.argv = ["depthtok", *sys.argv[1:]]
try:
    main()
finally:
    status = Path("/proc/self/status").read_text()
    print("PEAK", int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) >> 10, file=sys.stderr)
"""
"""getrusage would count the memory of the process that started this one, too."""


def annotated(tmp_path, picture: bytes, steps: int, *more: str, key="image"):
    """An episode with such frames among three, annotated: exit code, peak MiB, and the store."""

    def edit(number, values):
        if number == 1:
            values[f"steps/observation/{key}"] = [picture] * steps

    rlds = make_rlds(tmp_path / "rlds", episodes=3, steps=steps, shards=1, size=64, edit=edit)
    described = next(rlds.rglob("features.json"))
    tree = json.loads(described.read_text())
    observation = tree["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]
    observation = observation["features"]["observation"]["featuresDict"]["features"]
    for feature in observation.values():
        if "image" in feature:
            feature["image"]["shape"]["dimensions"][:2] = ["-1", "-1"]
    described.write_text(json.dumps(tree))
    said = []
    for words in (
        ["convert", rlds, "--schema", "libero_depth", "--out", tmp_path / "episodes"],
        [
            "annotate",
            tmp_path / "episodes",
            "--camera",
            "image",
            "--size",
            64,
            "--out",
            tmp_path / "depth",
            *more,
        ],
    ):
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, *map(str, words)],
            capture_output=True,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "OMP_NUM_THREADS": "1",
                "CUDA_VISIBLE_DEVICES": "",
            },
        )
        assert "Traceback" not in done.stderr, done.stderr
        said.append((done.returncode, int(done.stderr.split("PEAK ")[1])))
    assert said[0][0] == 0
    assert said[0][1] < 1000
    return *said[1], DepthStore(tmp_path / "depth")


def noise(side: int) -> np.ndarray:
    """A grey picture of squares: small as a file, and no flat colour."""
    small = np.random.default_rng(side).integers(0, 255, (8, 8)).astype(np.uint8)
    return np.kron(small, np.ones((-(-side // 8),) * 2, np.uint8))[:side, :side]


def encoded(pixels: np.ndarray, form: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()


ESTIMATED = ("--estimator", "tiny", "--input-size", "28")


@pytest.mark.parametrize(
    ("form", "more"),
    [("JPEG", ESTIMATED), ("PNG", ESTIMATED), ("depth", ("--estimator", "dataset"))],
)
def test_frames_of_8000_px_are_a_recorded_failure(tmp_path, form, more):
    pixels, key = np.stack([noise(8000)] * 3, axis=-1), "image"
    if form == "depth":
        form, key, pixels = "PNG", "depth", noise(8000).astype(np.uint16) + 500
    code, peak, depth = annotated(tmp_path, encoded(pixels, form), 12, *more, key=key)
    assert (code, len(list(depth.clips()))) == (1, 2)
    (failure,) = depth.failures()
    assert "8000 x 8000 px are 64.0 million pixels, more than the 33.6 million" in failure.reason
    assert peak < 1000  # 12 such frames are 2.3 GB as pixels, and 9 GB as they were worked on


def test_large_frames_get_depth_in_bounded_memory(tmp_path):
    picture = encoded(np.stack([noise(LARGE)] * 3, axis=-1), "JPEG")
    code, peak, depth = annotated(tmp_path, picture, 34, *ESTIMATED)
    assert (code, len(list(depth.clips()))) == (0, 3)
    assert peak < 2000  # 34 frames of 5,000 px were 2.5 GB as pixels, and 20 GB as worked on


def test_large_depth_is_read_in_bounded_memory(tmp_path):
    picture = encoded(noise(LARGE).astype(np.uint16) + 500, "PNG")
    flags = ("--estimator", "dataset")
    code, peak, depth = annotated(tmp_path, picture, 34, *flags, key="depth")
    assert (code, len(list(depth.clips()))) == (0, 3)
    assert peak < 2000


def _bomb(form: str) -> bytes:
    """A picture whose header says 60,000 px a side."""
    data = bytearray(encoded(np.stack([noise(32)] * 3, axis=-1), form))
    if form == "PNG":
        data[16:24] = (60000).to_bytes(4, "big") * 2
    else:
        offset = data.find(b"\xff\xc0") + 5
        data[offset : offset + 4] = (60000).to_bytes(2, "big") * 2
    return bytes(data)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_folders_of_pictures_with_huge_headers_are_looked_at(tmp_path, form):
    folder = tmp_path / "films" / "one"
    folder.mkdir(parents=True)
    for number in range(2):
        (folder / f"{number}.{form.lower()}").write_bytes(_bomb(form))
    (look,) = (look for _, look in VideoStage(tmp_path / "films", tmp_path / "out").looks)
    assert look.frames == 2
