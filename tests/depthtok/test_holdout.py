"""One rule says which episodes are held out, whoever asks."""

import numpy as np
import pytest

from depthtok.data import EpisodeKey
from depthtok.held_out import limits, place, places
from depthtok.stores.parts import ShardKey

SHARD = ShardKey("bridge", "1.0.0", "train", 3, 1024)


def test_one_episode_stands_where_it_stands_among_others():
    positions = places(SHARD, np.array([7, 0, 2]))
    assert [place(SHARD.episode(n)) for n in (7, 0, 2)] == positions.tolist()
    assert (places(SHARD, np.arange(9))[[7, 0, 2]] == positions).all()


def test_the_rule_never_changes():
    """Recorded by name: another value would silently hold out other episodes."""
    key = EpisodeKey("libero", "1.0.0", "train", 0, 16, 5)
    assert round(place(key), 9) == 0.74991591
    assert round(place("a video"), 9) == 0.241185405


def test_places_are_even_and_unlike_in_every_shard():
    positions = np.concatenate(
        [places(ShardKey("x", "1", "train", s, 9), np.arange(4000)) for s in range(9)]
    )
    assert positions.min() >= 0
    assert positions.max() < 1
    assert len(np.unique(positions)) == len(positions)
    counts = np.histogram(positions, 20, (0, 1))[0]
    assert np.abs(counts / 1800 - 1).max() < 0.1
    assert abs(np.corrcoef(positions[:-1], positions[1:])[0, 1]) < 0.02


def marks(episodes, share, names=None):
    below = limits(names or [str(n) for n in range(len(episodes))], episodes, share)
    return [position < limit for position, limit in zip(episodes, below, strict=True)]


def test_the_share_is_held_out_and_a_larger_one_holds_out_the_same_and_more():
    positions = places(SHARD, np.arange(5000))
    few, many = marks([positions], 0.1)[0], marks([positions], 0.25)[0]
    assert abs(few.mean() - 0.1) < 0.02
    assert abs(many.mean() - 0.25) < 0.02
    assert not (few & ~many).any()


def test_what_else_is_there_moves_no_episode():
    positions = places(SHARD, np.arange(400))
    other = places(ShardKey("kuka", "1.0.0", "train", 0, 1), np.arange(50))
    order = np.random.default_rng(0).permutation(400)
    alone = marks([positions], 0.2)[0]
    assert (marks([other, positions[order[:300]]], 0.2)[1] == alone[order[:300]]).all()


@pytest.mark.parametrize("share", [1e-9, 0.3, 0.999999999])
@pytest.mark.parametrize("count", [2, 3, 9])
def test_each_side_of_a_data_set_gets_one(count, share):
    for shard in range(30):
        mark = marks([places(ShardKey("x", "1", "s", shard, 30), np.arange(count))], share)[0]
        assert 0 < mark.sum() < count


def test_nothing_is_held_out_of_nothing_and_of_one():
    one, none = np.array([0.01]), np.empty(0)
    assert [m.sum() for m in marks([one, none], 0.5)] == [0, 0]
    assert not marks([places(SHARD, np.arange(9))], 0.0)[0].any()


def test_of_data_sets_of_one_episode_each_one_is_held_out():
    assert [m.tolist() for m in marks([np.array([0.7]), np.array([0.2])], 0.1)] == [[False], [True]]


def test_two_stores_of_one_data_set_have_one_limit():
    """Else an episode that both hold could be learnt in one and held out in the other."""
    first, second = np.array([0.5, 0.6]), np.array([0.4, 0.5])
    assert [m.tolist() for m in marks([first, second], 0.1, ["x", "x"])] == [
        [False, False],
        [True, False],
    ]
