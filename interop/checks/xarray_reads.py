"""xarray opens every store as one tree, with named dimensions, and decodes depth to metres."""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import xarray

warnings.filterwarnings("ignore", message="Object at .* is not recognized as a component")
folder = Path(sys.argv[1])
expected = np.load(folder / "expected.npz")
facts = json.loads((folder / "expected.json").read_text())


def tree(store):
    return xarray.open_datatree(folder / store, engine="zarr", consolidated=False)


def over_parts(tree, group, name, dimension):
    """One variable of all parts."""
    parts = [tree[f"parts/{part}/{group}"][name] for part in facts["parts"]]
    return xarray.concat(parts, dimension)


def all_of(name):
    return np.concatenate([expected[f"{name}/{n}"] for n in range(len(facts["keys"]))])


codes = over_parts(tree("codes"), "codes", "image", "frame")
assert codes.dims == ("frame", "row", "column"), codes.dims
np.testing.assert_array_equal(codes, all_of("codes"))
depth = over_parts(tree("depth"), "depth", "image", "frame")
assert depth.dims == ("frame", "y", "x"), depth.dims
assert depth.attrs["units"] == "m", depth.attrs
np.testing.assert_allclose(depth, all_of("depth"), rtol=1e-6)  # with NaN where there is no depth
quantiles = over_parts(tree("depth"), "", "quantiles", "episode")
assert quantiles.dims == ("episode", "camera", "quantile"), quantiles.dims
named = quantiles.assign_coords(
    camera=quantiles.attrs["camera"], quantile=quantiles.attrs["quantile"]
)
median = named.sel(camera="image", quantile=0.5)
np.testing.assert_array_equal(median, expected["quantiles"][:, 0, 5])
action = over_parts(tree("episodes"), "", "action", "frame")
np.testing.assert_array_equal(action, all_of("action"))
about = tree("episodes").attrs["depthtok"]["about"]
assert about["action_names"] == facts["action_names"], about["action_names"]
print(f"xarray {xarray.__version__}: {len(codes)} frames of codes, depth and actions are equal")
