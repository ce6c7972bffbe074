"""Samples: chunks, codes, normalisation, and joins that are refused."""

import zlib
from dataclasses import replace

import numpy as np
import pytest

from depthtok.data import EpisodeKey, ImageTransform
from depthtok.errors import ConfigError, MissingParts, StaleStore
from depthtok.held_out import BEFORE, KEYED, place
from tests.vla import fakes
from vla.data.dataset import BEFORE as BEGUN_IN_ORDER
from vla.data.dataset import Dataset, SampleOrder
from vla.data.member import Member, held_by, held_out, member, of_unknown_origin
from vla.data.normalise import Norms, Scale
from vla.data.tokenizer import ByteTokenizer


def sample(data, number, epoch=0, seed=0):
    row = {name: np.full(shape, 77, dtype) for name, (shape, dtype) in data.fields().items()}
    data.fill(row, number, epoch, seed)
    return row


def test_a_sample(micro, toy):
    episodes = fakes.FakeEpisodes()
    data = toy(micro(), episodes)
    assert len(data) == 8 + 8 + 5
    row, episode = sample(data, 10), episodes.episode(1)
    norms = data.norms()["toy"]
    assert data.place(10) == (0, 1, 2)
    assert (row["images_BIHW3"][1] == episode.images["wrist"][2]).all()
    assert np.allclose(norms.action.undo(row["actions_BCA"]), episode.action[2:6], atol=1e-5)
    assert np.allclose(norms.proprio.undo(row["proprio_BP"]), episode.proprio[2], atol=1e-5)
    assert np.abs(row["actions_BCA"]).max() <= 1
    assert (row["actions_BCA"][:, -1] == episode.action[2:6, -1]).all()  # the gripper
    grid = data.members[0].codes.grid_of(episode.key, "main").codes[2]
    assert (row["depth_BMK"] == grid.reshape(1, -1)).all()
    assert row["action_valid_BC"].all()
    assert row["depth_valid_BM"].all()
    text = bytes(t - 4 for t in row["text_BL"][row["text_valid_BL"]][1:])
    assert text == b"open the drawer\n"


def test_chunks_stop_at_the_episode_end(micro, toy):
    episodes = fakes.FakeEpisodes()
    data = toy(micro(), episodes)
    row = sample(data, 7)
    assert row["action_valid_BC"].tolist() == [True, False, False, False]
    restored = data.norms()["toy"].action.undo(row["actions_BCA"])
    assert np.allclose(restored, episodes.episode(0).action[[7, 7, 7, 7]], atol=1e-5)


def test_future_codes(micro, toy):
    data = toy(micro(model__depth__future=3))
    episode = data.members[0].episodes.episode(0)
    codes = data.members[0].codes.grid_of(episode.key, "main").codes
    assert (sample(data, 1)["depth_BMK"][0] == codes[4].reshape(-1)).all()
    assert sample(data, 4)["depth_valid_BM"].all()
    assert not sample(data, 5)["depth_valid_BM"].any()


def without(data, number, camera):
    """Takes a camera away from an episode of the toy data, and its codes."""
    member = data.members[0]
    episode = member.episodes._made[number]
    member.episodes._made[number] = replace(episode, lacking=frozenset({camera}))
    member.codes.absent.add((episode.key, camera))


def test_an_absent_camera_is_black_and_has_no_target(micro, toy):
    data = toy(micro(model__depth__cameras=2, data__photometric=0.4))
    before = [sample(data, number) for number in (3, 10)]
    without(data, 0, "wrist")
    row, other = sample(data, 3), sample(data, 10)
    assert not row["images_BIHW3"][1].any()
    assert (row["images_BIHW3"][0] == before[0]["images_BIHW3"][0]).all()
    assert row["depth_valid_BM"].tolist() == [True, False]
    assert (row["depth_BMK"][0] == before[0]["depth_BMK"][0]).all()
    assert not row["depth_BMK"][1].any()
    assert all((other[name] == before[1][name]).all() for name in other)


def test_an_absent_camera_does_not_count_for_the_prior(micro, toy):
    data = toy(micro(model__depth__cameras=2))
    every = data.code_counts()
    without(data, 0, "wrist")
    counts = data.code_counts()
    assert (counts[0] == every[0]).all()
    episode = data.members[0].episodes.episode(0)
    codes = data.members[0].codes.grid_of(episode.key, "wrist").codes.reshape(8, -1)
    mine = np.stack([np.bincount(column, minlength=16) for column in codes.T])
    assert (counts[1] == every[1] - mine).all()


def test_augmentation_follows_seed_epoch_and_number(micro, toy):
    data = toy(micro(data__photometric=0.4))
    a, b = sample(data, 3), sample(data, 3)
    assert (a["images_BIHW3"] == b["images_BIHW3"]).all()
    for other in (sample(data, 3, epoch=1), sample(data, 3, seed=1)):
        assert (a["images_BIHW3"] != other["images_BIHW3"]).any()
        assert (a["depth_BMK"] == other["depth_BMK"]).all()


class SeveralTexts(fakes.FakeEpisodes):
    """Every step can be said in three ways."""

    def episode(self, number):
        episode_read = super().episode(number)
        return fakes.SeveralTexts(**vars(episode_read))


def said(row):
    return bytes(t - 4 for t in row["text_BL"][row["text_valid_BL"]][1:-1])


def test_one_of_several_texts_is_drawn_by_seed_epoch_and_number(micro, toy):
    data = toy(micro(), SeveralTexts())
    drawn = {said(sample(data, 3, epoch)) for epoch in range(20)}
    assert len(drawn) == 3
    assert said(sample(data, 3, 5)) == said(sample(data, 3, 5))
    assert len({said(sample(data, number)) for number in range(8)}) == 3
    assert len({said(sample(data, 3, seed=seed)) for seed in range(20)}) == 3


def test_the_first_of_several_texts_is_used_where_told_and_to_judge(micro, toy):
    first = said(sample(toy(micro(), fakes.FakeEpisodes()), 3))
    first_text = toy(micro(data__instruction="first"), SeveralTexts())
    judged = Dataset(first_text.members, micro(), ByteTokenizer(), augment=False)
    for data in (first_text, judged):
        assert {said(sample(data, 3, epoch)) for epoch in range(20)} == {first}


def test_what_is_drawn_changes_nothing_else(micro, toy):
    one, several = (
        toy(micro(data__photometric=0.4), e()) for e in (fakes.FakeEpisodes, SeveralTexts)
    )
    a, b = sample(one, 3), sample(several, 3)
    assert (a["images_BIHW3"] == b["images_BIHW3"]).all()


def test_mixtures_draw_by_weight(micro):
    config = micro(model__depth__expert=False)
    parts = [
        member(name, fakes.FakeEpisodes(2, 8, name=name), None, config, weight=weight)
        for name, weight in (("a", 2.0), ("b", 0.5))
    ]
    data = Dataset(parts, config, ByteTokenizer())
    assert data.sizes == [13, 13]
    assert len(data) == 26 + 6
    epochs = [[data.place(n, epoch) for n in range(len(data))] for epoch in range(13)]
    of_b = [sample for epoch in epochs for sample in epoch if sample[0] == 1]
    assert sum(sample[0] == 0 for sample in epochs[0]) == 26
    assert len(set(epochs[0])) == 13 + 6
    assert len(set(of_b)) == 13  # what one epoch leaves out, another has
    assert set(data.norms()) == {"a", "b"}


def of_weight(weight, config, count=40, **options):
    """One data set of `count` episodes, drawn from by a weight."""
    episodes = fakes.FakeEpisodes(count, 8)
    one = join(config, fakes.FakeCodes(episodes, grid=4, codes=16), episodes, weight=weight)
    return Dataset([one], config, ByteTokenizer(), **options)


def drawn_steps(data, epoch):
    return [data.place(number, epoch)[1:] for number in range(len(data))]


@pytest.mark.parametrize("weight", [0.1, 1.5])
def test_a_part_of_a_data_set_is_spread_over_it(micro, weight):
    data = of_weight(weight, micro())
    size, count = data.sizes[0], len(data)
    epochs = [drawn_steps(data, epoch) for epoch in range(20)]
    extra = epochs[0][size:] if weight > 1 else epochs[0]
    episodes = [index for index, _ in extra]
    assert abs(np.mean(episodes) - 19.5) < 8
    assert len(set(episodes)) > 15
    everything = [step for epoch in epochs for step in epoch]
    turns = [everything[n : n + size] for n in range(0, 20 * count - size + 1, size)]
    assert all(len(set(turn)) == size for turn in turns)  # each in its turn


def test_the_prior_counts_a_part_as_it_is_drawn(micro):
    data = of_weight(0.1, micro())
    for number, episode in enumerate(data.members[0].episodes._made):
        data.members[0].codes._codes[episode.key]["main"][:] = number % 16
    counts = data.code_counts()[0, 0]
    assert counts.sum() == len(data)
    assert (counts > 0).sum() > 8  # the first tenth has four


def test_whole_weights_and_runs_of_former_versions_keep_the_order_of_the_store(micro):
    in_order = [(index, step) for index in range(40) for step in range(8)][:-3]
    for weight in (1.0, 3.0):
        assert drawn_steps(of_weight(weight, micro()), 1) == in_order * int(weight)
    assert drawn_steps(of_weight(0.1, micro(), drawn=BEGUN_IN_ORDER), 0) == in_order[:32]


def join(config, codes, episodes=None, codebook="c0debook", **options):
    episodes = episodes or fakes.FakeEpisodes()
    return member("toy", episodes, codes, config, codebook=codebook, **options)


def test_failed_episodes_are_left_out_and_counted(micro):
    episodes = fakes.FakeEpisodes()
    joined = join(micro(), fakes.FakeCodes(episodes, grid=4, failed=(1,)), episodes)
    assert joined.episodes_used.tolist() == [0, 2]
    assert joined.left_out == 1


def test_codes_that_do_not_belong_are_refused(micro):
    episodes, config = fakes.FakeEpisodes(), micro()
    good = fakes.FakeCodes(episodes, grid=4)
    with pytest.raises(StaleStore, match="codebook"):
        join(config, good, codebook="another")
    with pytest.raises(StaleStore, match="16x16"):
        join(config, fakes.FakeCodes(episodes, grid=16))
    cropped = fakes.FakeCodes(episodes, grid=4, transform=ImageTransform(crop=(0, 0, 8, 8)))
    with pytest.raises(StaleStore, match="changed picture"):
        join(config, cropped)
    with pytest.raises(ConfigError, match="no codes"):
        join(config, None)
    good.missing = lambda: ["train-00001-of-00002"]
    with pytest.raises(MissingParts, match="lack 1 parts"):
        join(config, good)
    assert join(config, good, partial=True).left_out == 0


def test_data_that_do_not_fit_the_model_are_refused(micro):
    config = micro(model__depth__expert=False)
    with pytest.raises(ConfigError, match="action_dim 7, the model 6"):
        join(config.updated({"model.action_dim": 6}), None)
    with pytest.raises(ConfigError, match="no camera 'wrist'"):
        join(config, None, fakes.FakeEpisodes(cameras=("main", "other")))
    with pytest.raises(ConfigError, match="toy has no episode"):
        fakes.toy(config, only=[])
    for weight in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="`weight of toy` cannot be"):
            Dataset([join(config, None, weight=weight)], config, ByteTokenizer())


def test_depth_ahead_of_every_episodes_end_is_refused(micro):
    assert len(fakes.toy(micro(model__depth__future=7))) == 21
    with pytest.raises(ConfigError, match="no episode of toy has more than 8"):
        fakes.toy(micro(model__depth__future=8))
    judge = fakes.toy(micro(), only=[2]).members
    with pytest.raises(ConfigError, match="none of the 1 held-out episodes of toy has more than 5"):
        Dataset(judge, micro(model__depth__future=5), ByteTokenizer(), held_out=True)


def test_instructions_of_the_whole_store_are_known(micro):
    data = fakes.toy(micro(), only=[0])
    assert data.instruction(0) == fakes.INSTRUCTIONS[0]
    assert data.instructions(9) == sorted(fakes.INSTRUCTIONS)


def test_the_stream_is_an_exact_shuffle_every_epoch():
    stream = SampleOrder(101, seed=4)
    drawn = list(stream.draw(0, 303))
    for epoch in range(3):
        part = drawn[101 * epoch : 101 * (epoch + 1)]
        assert [e for e, _ in part] == [epoch] * 101
        assert sorted(n for _, n in part) == list(range(101))
    assert drawn[:101] != [(0, n) for _, n in drawn[101:202]]
    assert list(stream.draw(57, 220)) == drawn[57:220]


class Store(fakes.FakeEpisodes):
    """Episodes of which only the parts matter."""

    def __init__(self, keys, frames=10):
        super().__init__(count=1, steps=1)
        self._frames = dict.fromkeys(keys, frames)

    def parts(self):
        return fakes.parts(self._frames)


def of_keys(name, keys):
    scale = Scale((), ())
    return Member(name, Store(keys), None, Norms(scale, scale), np.arange(len(keys)))


def sided(keys, share, rule):
    return held_out([of_keys("d", keys)], share, rule)[0]


def test_held_out_episodes_follow_their_keys():
    keys = [EpisodeKey("d", "1", "train", s, 4, n) for s in range(4) for n in range(100)]
    out = sided(keys, 0.1, KEYED)
    assert 20 <= out.sum() <= 60
    assert (sided(keys[:200], 0.1, KEYED) == out[:200]).all()
    assert (out == [place(key) < 0.1 for key in keys]).all()


def test_runs_of_former_versions_keep_their_rule():
    keys = [EpisodeKey("d", "1", "train", s, 4, n) for s in range(4) for n in range(100)]
    hashes = [zlib.crc32(str(key).encode()) % 10_000 for key in keys]
    assert (sided(keys, 0.1, BEFORE) == (np.array(hashes) < 1000)).all()
    assert not sided(keys[:2], 1e-4, BEFORE).any()


def test_of_two_stores_of_one_data_set_no_episode_is_on_both_sides():
    keys = [EpisodeKey("d", "1", "train", 0, 1, n) for n in range(4)]
    order = sorted(range(4), key=lambda n: place(keys[n]))
    parts = sorted(order[:2]), sorted(order[1:])  # the second store's lowest is the first's highest
    members = [of_keys(f"d-{n}", [keys[i] for i in part]) for n, part in enumerate(parts)]
    first, second = held_out(members, 1e-6)
    held = {i for part, out in ((parts[0], first), (parts[1], second)) for i in np.array(part)[out]}
    assert held == {order[0]}


def test_codes_are_joined_by_key():
    keys = [EpisodeKey("d", "1", "train", s, 4, n) for s in range(4) for n in range(5)]
    some = [key for key in keys if key.shard != 2 and key.index % 2]
    assert (held_by(Store(some), Store(keys)) == [key in some for key in keys]).all()


def test_codes_of_other_episodes_are_refused():
    keys = [EpisodeKey("d", "1", "train", 0, 1, n) for n in range(3)]
    other = [EpisodeKey("e", "1", "train", 0, 1, n) for n in range(3)]
    with pytest.raises(StaleStore, match="the codes are of e 1, the episodes of d 1"):
        held_by(Store(other), Store(keys))
    with pytest.raises(StaleStore, match="00000 has 10 frames, its codes are for 11"):
        held_by(Store(keys, frames=11), Store(keys))
    assert not held_by(Store([]), Store(keys)).any()


def part_of(shard, frames, **views):
    """A part of a store with one episode, that records the frames of some views."""
    key = EpisodeKey("d", "1", "train", shard, 3, 0)
    part = fakes.parts({key: frames})[0]
    return replace(part, meta={"frames": views} if views else {})


class Parts:
    fingerprint = content = "parts"

    def __init__(self, *parts):
        self._parts = parts

    def parts(self):
        return self._parts


def test_codes_of_other_frames_are_refused_and_counted():
    episodes = Parts(*(part_of(n, 5, main=f"m{n}", wrist="w") for n in range(3)))
    same = Parts(*(part_of(n, 5, main=f"m{n}") for n in range(3)))
    assert held_by(same, episodes).all()
    assert of_unknown_origin(same, episodes) == 0
    stale = Parts(part_of(0, 5, main="m0"), *(part_of(n, 5, main="old") for n in (1, 2)))
    with pytest.raises(StaleStore, match=r"codes of 2 of 3 shards .*first: train 00001") as caught:
        held_by(stale, episodes)
    assert "`tokenize` again" in caught.value.remedy


def test_codes_that_do_not_say_what_they_are_of_are_counted():
    episodes = Parts(*(part_of(n, 5, main="m") for n in range(3)))
    older = Parts(part_of(0, 5), part_of(1, 5, main="m"), part_of(2, 5, other="m"))
    assert held_by(older, episodes).all()
    assert of_unknown_origin(older, episodes) == 2
