"""Arrays of new stores name their dimensions; stores made before go on without."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import zarr

import depthtok
from depthtok.stores.filling import create, drop_part
from depthtok.stores.spec import names_dimensions, read_spec, with_dimensions, without_dimensions
from depthtok.stores.store import Store
from depthtok.testing import tree_digest

BEFORE = Path(__file__).parents[2] / "data" / "before"
DIMENSIONS = {
    "episodes": {
        "action": ("frame", "action_column"),
        "proprio": ("frame", "proprio_column"),
        "instruction": ("frame",),
        "images": ("frame", "view", "image_span"),
        "intrinsics": ("episode", "camera", "matrix_entry"),
    },
    "depth": {"depth/image": ("frame", "y", "x"), "quantiles": ("episode", "camera", "quantile")},
    "codes": {"codes/image": ("frame", "row", "column"), "range": ("episode", "camera", "bound")},
}


def make(name, root):
    """Makes or completes one of the three stores in `root`."""
    return {
        "episodes": lambda: depthtok.convert(
            BEFORE / "rlds" / "1.0.0", out=root / "episodes", schema=str(BEFORE / "schema.toml")
        ),
        "depth": lambda: depthtok.annotate(
            root / "episodes", out=root / "depth", estimator="dataset", size=64, device="cpu"
        ),
        "codes": lambda: depthtok.tokenize(
            root / "depth", codebook=BEFORE / "codebook", out=root / "codes", device="cpu"
        ),
    }[name]()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("named")
    for name in DIMENSIONS:
        make(name, folder)
    return folder


@pytest.mark.parametrize("name", DIMENSIONS)
def test_any_zarr_client_sees_the_names(root, name):
    for part in Store(root / name).part_names:
        group = zarr.open_group(root / name / "parts" / part, mode="r")
        names = {array: group[array].metadata.dimension_names for array in DIMENSIONS[name]}
        assert names == DIMENSIONS[name]


def test_attributes_say_how_stored_values_become_depth(root):
    part = root / "depth" / "parts" / Store(root / "depth").part_names[0]
    group = zarr.open_group(part, mode="r")
    depth = {"missing_value": 0, "scale_factor": 0.001, "units": "m"}
    assert dict(group["depth/image"].attrs) == depth
    assert group["quantiles"].attrs["camera"] == ["image"]
    assert group["quantiles"].attrs["quantile"][5] == 0.5


@pytest.mark.parametrize("name", DIMENSIONS)
def test_a_part_made_again_has_the_same_bytes(root, name):
    before = tree_digest(root / name / "parts")
    drop_part(root / name, Store(root / name).part_names[1])
    assert (outcome := make(name, root)).made == 1
    assert outcome.kept == 1
    assert tree_digest(root / name / "parts") == before


@pytest.mark.parametrize("name", DIMENSIONS)
def test_a_store_begun_without_names_is_completed_without(root, tmp_path, name):
    for upstream in [other for other in DIMENSIONS if other != name]:
        (tmp_path / upstream).symlink_to(root / upstream)
    named = read_spec(root / name)
    create(tmp_path / name, without_dimensions(named))
    make(name, tmp_path)
    assert read_spec(tmp_path / name).fingerprint == without_dimensions(named).fingerprint
    for file in (tmp_path / name / "parts").rglob("zarr.json"):
        described = json.loads(file.read_text())
        assert "dimension_names" not in described
        assert described["attributes"] == {}
    before = tree_digest(tmp_path / name / "parts")
    drop_part(tmp_path / name, Store(tmp_path / name).part_names[0])
    make(name, tmp_path)
    assert tree_digest(tmp_path / name / "parts") == before


def test_fused_codes_begun_without_names_are_completed_without(root, tmp_path):
    """Their description holds that of their depth, which has a name less as well."""

    def annotate(out):
        return depthtok.annotate(
            root / "episodes",
            out=out,
            estimator="dataset",
            size=64,
            device="cpu",
            then_tokenize=BEFORE / "codebook",
        )

    annotate(tmp_path / "named")
    spec = read_spec(tmp_path / "named")
    depth = without_dimensions(read_spec(root / "depth"))
    what = {**spec.what, "depth": depth.fingerprint}
    nameless = replace(without_dimensions(spec), what=what)
    create(tmp_path / "before", nameless)
    assert annotate(tmp_path / "before").made == 2
    assert not names_dimensions(read_spec(tmp_path / "before"))


def test_names_are_part_of_what_a_store_is(root):
    """Workers of a version that writes no names cannot add parts to a store that has them."""
    spec = read_spec(root / "codes")
    assert with_dimensions(spec).fingerprint == spec.fingerprint
    assert without_dimensions(spec).fingerprint != spec.fingerprint


def test_overwriting_keeps_a_store_that_differs_by_names_alone(root, tmp_path):
    create(tmp_path / "episodes", without_dimensions(read_spec(root / "episodes")))
    make("episodes", tmp_path)
    settings = {"schema": str(BEFORE / "schema.toml"), "overwrite": True}
    done = depthtok.convert(BEFORE / "rlds" / "1.0.0", out=tmp_path / "episodes", **settings)
    assert (done.made, done.kept) == (0, 2)
