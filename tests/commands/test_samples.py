"""What the commands of the policy share."""

import zlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from depthtok.data import Camera, ImageTransform
from depthtok.errors import ConfigError
from depthtok.meaning import Column, Meaning
from depthtok.stores.parts import ShardKey
from depthtok.stores.statistics import ColumnStatistics, Statistics
from pipelines.train_vla.samples import datasets, fit
from pipelines.train_vla.stores import OpenStores, member_names
from vla.data.normalise import Norms, Scale
from vla.named_configs import load
from vla.training.checkpoint import TrainingState


@pytest.mark.unchecked  # what it gives stands for stores
def test_members_of_one_data_set_keep_names_of_their_own():
    """Norms and cached frames are kept by name: one name for two would mix them up."""
    stores = [SimpleNamespace(dataset=name) for name in ("libero", "bridge", "libero")]
    assert member_names(stores) == ["libero-1", "bridge", "libero-2"]
    assert member_names(stores[:2]) == ["libero", "bridge"]


def given(grid):
    store = SimpleNamespace(cameras={"image": None}, action_dim=7, proprio_dim=8)
    book = SimpleNamespace(vectors=np.zeros((256, 64)), grid=(grid, grid))
    return OpenStores([store], [], book)


@pytest.mark.unchecked  # what it gives stands for stores
def test_a_grid_that_was_asked_for_is_not_replaced():
    assert fit(load("tiny"), given(32), None).model.depth.grid == 32
    assert fit(load("tiny+grid-32"), given(32), None).model.depth.grid == 32
    with pytest.raises(ConfigError, match=r"32x32 codes, these are 16x16(.|\n)*--grid 32"):
        fit(load("tiny+grid-32"), given(16), None)


@pytest.fixture
def store():
    """What is used of an EpisodeStore with ten episodes of one part."""
    shard, rows = ShardKey("toy", "1", "train", 0, 1), np.arange(10)
    part = SimpleNamespace(shard=shard, indices=rows, frames=rows, meta={})
    return SimpleNamespace(
        dataset="toy",
        path="toy",
        about={"dataset": "toy"},
        lengths=np.full(10, 4),
        cameras={"image": Camera("image", 8, 8)},
        action_dim=7,
        proprio_dim=8,
        gripper=(),
        meaning=MEANING,
        parts=lambda: [part],
        require_complete=lambda partial: None,
        statistics=statistics,
        absent=dict,
        fingerprint="toy",
        content="",
        episode=None,
    )


MEANING = Meaning(
    tuple(Column(f"a{n}") for n in range(7)), tuple(Column(f"s{n}") for n in range(8)), "none", 10.0
)


def statistics():
    def columns(width):
        low, high = (0.0,) * width, (1.0,) * width
        return ColumnStatistics(40, low, high, low, high, low, high)

    return Statistics(columns(7), columns(8), 10, 40)


def joined(store, share, monkeypatch, failed, begun=None):
    config = load("tiny").updated({"data.cameras": ["image"], "model.cameras": 1})
    codes = SimpleNamespace(
        codebook="book",
        cameras=("image",),
        grid=(16, 16),
        missing=list,
        parts=list,
        failures=list,
        absent=dict,
        fingerprint="codes",
        content="",
        find_grid=None,
        transform=ImageTransform(),
    )
    held = np.ones(10, bool)
    held[failed] = False
    monkeypatch.setattr("vla.data.member.held_by", lambda codes, episodes: held)
    monkeypatch.setattr("vla.data.member.of_unknown_origin", lambda codes, episodes: 0)
    monkeypatch.setattr("pipelines.train_vla.samples._say_absent", lambda *stores: None)
    stores = OpenStores([store], [codes], SimpleNamespace(fingerprint="book"))
    return datasets(config, stores, None, share, partial=False, begun=begun)


@pytest.mark.unchecked  # what it gives stands for stores
def test_failed_episodes_are_left_out_and_others_judge(store, monkeypatch, capsys):
    """The codebook, whose depth lacks the same episodes, holds out the same others."""
    held_out = judges(store, 0.3, monkeypatch, [])
    again = judges(store, 0.3, monkeypatch, sorted(held_out))
    assert held_out
    assert again
    assert not held_out & again
    assert f"{len(held_out)} episodes without codes are left out" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="no episode is left to train on: none has codes"):
        joined(store, 0.3, monkeypatch, failed=np.arange(10))


def judges(store, share, monkeypatch, failed):
    learn, judge = joined(store, share, monkeypatch, failed)
    used = [set(side.members[0].episodes_used.tolist()) for side in (learn, judge)]
    assert not used[0] & used[1]
    assert used[0] | used[1] == {*range(10)} - {*failed}
    return used[1]


@pytest.mark.unchecked  # what it gives stands for stores
def test_a_run_of_former_versions_keeps_its_rule_and_its_norms(store, monkeypatch, capsys):
    state = TrainingState(
        3, {"toy": Norms(Scale((5.0,) * 7, (6.0,) * 7), Scale((7.0,) * 8, (8.0,) * 8))}
    )
    learn, judge = joined(store, 0.3, monkeypatch, [], state)
    crc = [zlib.crc32(b"%05d" % n, zlib.crc32(b"toy/1/train/00000-of-00001/")) for n in range(10)]
    former = [n for n in range(10) if crc[n] % 10_000 < 3000]
    assert judge.members[0].episodes_used.tolist() == former
    assert learn.members[0].norms == state.norms["toy"]
    newer = replace(state, notes={"held_out": {"rule": "key"}})
    assert joined(store, 0.3, monkeypatch, [], newer)[1].members[0].episodes_used.tolist() != former
