"""What the commands of the policy share."""

from types import SimpleNamespace

import numpy as np
import pytest

from depthtok.commands.samples import datasets, fit, member_names
from depthtok.data import ImageTransform
from depthtok.errors import ConfigError
from vla.member import split
from vla.named import load


def test_members_of_one_data_set_keep_names_of_their_own():
    """Norms and cached frames are kept by name: one name for two would mix them up."""
    stores = [SimpleNamespace(about={"dataset": name}) for name in ("libero", "bridge", "libero")]
    assert member_names(stores) == ["libero-1", "bridge", "libero-2"]
    assert member_names(stores[:2]) == ["libero", "bridge"]


def given(grid):
    store = SimpleNamespace(cameras={"image": None}, action_dim=7, proprio_dim=8)
    book = SimpleNamespace(vectors=np.zeros((256, 64)), grid=(grid, grid))
    return SimpleNamespace(episodes=[store], targets=[], book=book)


def test_a_grid_that_was_asked_for_is_not_replaced():
    assert fit(load("tiny"), given(32), None).model.depth.grid == 32
    assert fit(load("tiny+grid-32"), given(32), None).model.depth.grid == 32
    with pytest.raises(ConfigError, match=r"32x32 codes, these are 16x16(.|\n)*--grid 32"):
        fit(load("tiny+grid-32"), given(16), None)


@pytest.fixture
def store():
    """What is used of an EpisodeStore with ten episodes of one part."""
    key = SimpleNamespace(episode=lambda index: "toy/00000")
    part = SimpleNamespace(shard=key, indices=np.arange(10))
    return SimpleNamespace(
        path="toy", about={"dataset": "toy"}, lengths=np.full(10, 4), cameras={"image": None},
        action_dim=7, proprio_dim=8, gripper=(), parts=lambda: [part],
        require_complete=lambda partial: None, statistics=statistics, absent=dict,
    )  # fmt: skip


def statistics():
    def columns(width):
        ones = (1.0,) * width
        return SimpleNamespace(min=ones, max=ones, q01=ones, q99=ones)

    return SimpleNamespace(action=columns(7), proprio=columns(8))


def joined(store, share, monkeypatch, failed):
    config = load("tiny").updated({"data.cameras": ["image"], "model.cameras": 1})
    codes = SimpleNamespace(
        codebook="book", cameras=("image",), grid=(16, 16), missing=list, failures=list, absent=dict,
        transform=ImageTransform(),
    )  # fmt: skip
    held = np.ones(10, bool)
    held[failed] = False
    monkeypatch.setattr("vla.member.held_by", lambda codes, episodes: held)
    monkeypatch.setattr("vla.member.of_unknown_origin", lambda codes, episodes: 0)
    monkeypatch.setattr("depthtok.commands.samples._say_absent", lambda *stores: None)
    stores = SimpleNamespace(
        episodes=[store], targets=[codes], book=SimpleNamespace(fingerprint="book")
    )
    return datasets(config, stores, None, share, partial=False)


def test_failed_episodes_are_left_out_though_no_other_judges(store, monkeypatch, capsys):
    share = 0.3
    judges = split(store, share).nonzero()[0]
    assert 0 < len(judges) < 10
    learn, judge = joined(store, share, monkeypatch, failed=judges)
    assert judge is None
    assert len(learn) == 4 * (10 - len(judges))
    told = capsys.readouterr().err
    assert f"{len(judges)} episodes without codes are left out" in told
    assert "no held-out episode has codes" in told
    with pytest.raises(ConfigError, match="no episode is left to train on"):
        joined(store, share, monkeypatch, failed=np.arange(10))
