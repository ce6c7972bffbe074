"""What a training learnt from: by content where it lies here, by name where it does not."""

from pathlib import Path

import pytest

from depthtok.stores.codebook import Codebook
from depthtok.stores.store import Store
from pipelines.ablate.learnt import ENDS, differences, learnt
from pipelines.train_vla.inputs import Stores
from vla.named_configs import load

BEFORE = Path(__file__).parents[2] / "data" / "before"
CODES, DEPTH, BOOK = BEFORE / "codes", BEFORE / "depth", BEFORE / "codebook"
STORES = Stores((BEFORE / "episodes",), (CODES,), (DEPTH,), BOOK)


def test_only_stores_that_are_read():
    by_arm = {
        preset: learnt(load(preset), STORES, None, None)
        for preset in ("tiny", "tiny+no-depth-loss", "tiny+pixels")
    }
    read = {
        preset: [bool(values[name]) for name in ("episodes", "codes", "depth", "codebook")]
        for preset, values in by_arm.items()
    }
    assert read == {
        "tiny": [True, True, False, False],  # codes name their codebook
        "tiny+no-depth-loss": [True, False, False, False],
        "tiny+pixels": [True, False, True, True],
    }
    assert by_arm["tiny"]["codes"] == [{"content": Store(CODES).content}]
    assert by_arm["tiny+pixels"]["codebook"] == {"content": Codebook.load(BOOK).fingerprint}


def named(weights):
    return learnt(load("tiny"), STORES, weights, None)


def test_weights_are_known_by_content_or_by_name(tmp_path):
    path, other = tmp_path / "weights.pt", tmp_path / "other" / "weights.pt"
    other.parent.mkdir()
    path.write_bytes(bytes(3 * ENDS))
    other.write_bytes(bytes(3 * ENDS - 1) + b"1")
    scratch, here, changed = named(None), named(str(path)), named(str(other))
    hub, tuned = named("hf://owner/one"), named("hf://owner/two")
    run = named(str(BEFORE / "run"))
    for one, two in ((scratch, here), (scratch, hub), (here, changed), (hub, tuned), (here, run)):
        assert differences(one, two) == differences(two, one) == ["weights"]
    assert differences(here, hub) == []  # what lies there is not known
    other.write_bytes(path.read_bytes())
    assert differences(here, named(str(other))) == []
    path.unlink()
    assert differences(here, named(str(path))) == []


@pytest.mark.parametrize("weights", [[1.0], [2.0]])
def test_numbers_of_stores_and_names_that_a_later_version_adds(weights):
    stores = Stores((BEFORE / "episodes",) * 2, (CODES,) * 2, sampling_weight=(1.0,))
    now = learnt(load("tiny"), STORES, None, None) | {"sampling_weight": weights, "later": 1}
    expected = ["episodes", "codes"] + ["sampling_weight"] * (weights != [1.0])
    assert differences(now, learnt(load("tiny"), stores, None, None)) == expected
