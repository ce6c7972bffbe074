"""rerun's own program says that a file is sound, and its reader finds what the stores hold."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import rerun
from rerun.chunk import RrdReader

folder = Path(sys.argv[1])
expected = np.load(folder / "expected.npz")
facts = json.loads((folder / "expected.json").read_text())
file = folder / "shown.rrd"
subprocess.run([sys.executable, "-m", "rerun", "rrd", "verify", file], check=True)
reader = RrdReader(file)
recordings = {entry.recording_id: entry for entry in reader.recordings()}
assert sorted(recordings) == sorted(facts["keys"]), sorted(recordings)


def columns(entry, entity, name):
    """The rows of a component, by frame."""
    by_frame = {}
    for chunk in reader.stream(store=entry).to_chunks():
        if chunk.entity_path == entity and not chunk.is_static:
            table = chunk.to_record_batch().to_pydict()
            if name in table:
                by_frame |= dict(zip(table["frame"], table[name], strict=True))
    return [by_frame[frame] for frame in sorted(by_frame)]


def images(entry, entity, kind, dtype, shape):
    buffers = [bytes(blob) for [blob] in columns(entry, entity, f"{kind}:buffer")]
    return np.stack([np.frombuffer(buffer, dtype).reshape(shape) for buffer in buffers])


for number, key in enumerate(facts["keys"]):
    entry = recordings[key]
    metres, codes = expected[f"depth/{number}"], expected[f"codes/{number}"]
    grids = images(entry, "/image/codes", "SegmentationImage", np.uint8, codes.shape[1:])
    np.testing.assert_array_equal(grids, codes)
    depth = images(entry, "/image/true_depth", "DepthImage", np.uint16, metres.shape[1:])
    shown = np.where(depth > 0, depth.astype(np.float32) / np.float32(1000), np.nan)
    np.testing.assert_array_equal(shown, metres)
    assert len(columns(entry, "/image/decoded_depth", "DepthImage:buffer")) == len(codes)
    assert len(columns(entry, "/image/rgb", "EncodedImage:blob")) == len(codes)
    action = columns(entry, "/action", "Scalars:scalars")
    np.testing.assert_array_equal(np.array(action, np.float32), expected[f"action/{number}"])
    assert columns(entry, "/instruction", "TextDocument:text")[0] == [facts["instructions"][number]]
print(f"rerun {rerun.__version__}: {len(recordings)} recordings are equal")
