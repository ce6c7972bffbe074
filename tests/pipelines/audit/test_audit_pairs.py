"""Which clips are compared: of the same frames, with poses that fit, wherever the data set is."""

import re
from pathlib import Path

import pytest

import depthtok
from depthtok.errors import StaleStore
from depthtok.testing import make_rlds
from tests.commands.trainings import call

SAMPLE = Path(depthtok.__file__).parent / "sample" / "libero_sample"
SCHEMA = Path(depthtok.__file__).parent / "sources" / "schemas" / "libero_depth.toml"


def true_depth(rlds: Path, out: Path, schema: str = "") -> Path:
    """The data set's own depth, by the shipped schema or another one."""
    out.mkdir()
    (out / "schema.toml").write_text(schema or SCHEMA.read_text())
    call("convert", rlds, "--schema", out / "schema.toml", "--out", out / "episodes")
    words = ("--estimator", "dataset", "--size", 32, "--out", out / "depth")
    call("annotate", out / "episodes", *words)
    return out / "depth"


def compared(estimated: Path, truth: Path, out: Path, **settings):
    return depthtok.audit_depth(estimated=[estimated], truth=[truth], out=out, **settings)


@pytest.fixture(scope="module")
def rlds(tmp_path_factory):
    return make_rlds(tmp_path_factory.mktemp("rlds"), episodes=2, steps=3, shards=1)


def test_depth_of_other_frames_is_not_compared(rlds, tmp_path):
    """The cameras' keys were the wrong way round, and only the truth was made again."""
    first = true_depth(rlds, tmp_path / "first")
    swapped = {"image": "wrist_image", "depth": "wrist_depth"}
    swapped |= {new: old for old, new in swapped.items()}
    text = re.sub(
        r'("steps/observation/)(\w+)"',
        lambda match: f'{match[1]}{swapped.get(match[2], match[2])}"',
        SCHEMA.read_text(),
    )
    second = true_depth(rlds, tmp_path / "second", text)
    with pytest.raises(StaleStore, match=r"of other frames \(1 of 1 parts\)") as error:
        compared(first, second, tmp_path / "audit")
    assert str(first) in error.value.problem
    assert str(second) in error.value.problem
    assert "`annotate` for both" in error.value.remedy


def test_where_frames_are_not_recorded_that_is_said(rlds, tmp_path, monkeypatch, capsys):
    depth = true_depth(rlds, tmp_path / "first")
    compared(depth, depth, tmp_path / "audit")
    assert "not known" not in capsys.readouterr().err
    monkeypatch.setattr("pipelines.audit.pairs.frames_of", lambda *_: {})
    compared(depth, depth, tmp_path / "audit")
    assert "1 of 1 parts" in capsys.readouterr().err


def test_poses_of_steps_that_are_not_kept_end_nothing(tmp_path, capsys):
    schema = f"{SCHEMA.read_text()}\n[keep]\ndrop_first = 1\n"
    depth = true_depth(SAMPLE, tmp_path / "kept", schema)
    capsys.readouterr()
    result = compared(depth, depth, tmp_path / "audit", any_unit=True)
    assert result.clips == 8
    assert result.left_out == []
    (row,) = result.estimators
    assert row.data_sets["libero_sample, wrist_image"]["tae"] is None
    assert capsys.readouterr().err.count("have no alignment error") == 1


@pytest.mark.parametrize("any_unit", [False, True])
def test_images_of_a_data_set_that_moved_are_on_the_page(any_unit, tmp_path):
    before = make_rlds(tmp_path / "before", episodes=2, steps=3, shards=1)
    depth = true_depth(before, tmp_path / "stores")
    before.rename(tmp_path / "now")
    settings = {"source_root": tmp_path / "now", "any_unit": any_unit}
    result = compared(depth, depth, tmp_path / "audit", **settings)
    assert "image is not there" not in result.page.read_text()
