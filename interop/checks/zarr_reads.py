"""The current zarr opens every store, and reads the arrays, names and attributes that are there."""

import json
import sys
from pathlib import Path

import numpy as np
import zarr

folder = Path(sys.argv[1])
expected = np.load(folder / "expected.npz")
facts = json.loads((folder / "expected.json").read_text())


def rows(store, array):
    """An array, part after part."""
    group = zarr.open_group(folder / store, mode="r")
    return np.concatenate([group["parts"][part][array][:] for part in facts["parts"]])


def all_of(name):
    return np.concatenate([expected[f"{name}/{n}"] for n in range(len(facts["keys"]))])


np.testing.assert_array_equal(rows("codes", "codes/image"), all_of("codes"))
np.testing.assert_array_equal(rows("codes", "range"), expected["range"])
np.testing.assert_array_equal(rows("episodes", "action"), all_of("action"))
np.testing.assert_array_equal(rows("episodes", "proprio"), all_of("proprio"))
millimetres = rows("depth", "depth/image")
metres = np.where(millimetres > 0, millimetres.astype(np.float32) / np.float32(1000), np.nan)
np.testing.assert_array_equal(metres, all_of("depth"))
array = zarr.open_group(folder / "depth", mode="r")["parts"][facts["parts"][0]]["depth/image"]
assert array.metadata.dimension_names == ("frame", "y", "x"), array.metadata.dimension_names
assert array.attrs["units"] == "m"
print(f"zarr {zarr.__version__}: {len(millimetres)} frames of codes, depth and actions are equal")
