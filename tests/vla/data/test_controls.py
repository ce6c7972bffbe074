"""Controls: policies of equal size that are taught wrong depth codes, and what these tell."""

import numpy as np
import pytest

from depthtok.errors import ConfigError
from tests.vla import fakes
from vla.data.controls import controlled, fewer, records, same_step, shuffled
from vla.data.dataset import Dataset
from vla.data.member import member
from vla.data.tokenizer import ByteTokenizer
from vla.model.model import build
from vla.named_configs import load
from vla.run_options import TrainingOptions
from vla.training.train import train

CONTROLS = ("shuffled-codes", "same-step-codes", "random-codes")


def told(episodes, step_matters=True):
    """Codes that say which episode and step they are of: episode in the first position, step in the
    second, and the sum in all others."""
    codes = fakes.FakeCodes(episodes, grid=4, codes=16)
    for number, by_camera in enumerate(codes._codes.values()):
        for grids in by_camera.values():
            for step, grid in enumerate(grids):
                grid[:] = (number + step) % 16
                grid[0, :2] = number, step
    return codes


def arm(name, codes=told, episodes=None, only=None, seed=0):
    episodes = episodes or fakes.FakeEpisodes(count=6, steps=8)
    settings = fakes.MICRO | {"train.seed": seed}
    config = load(f"tiny+{name}", settings)
    joined = member(
        "toy", episodes, codes(episodes), config, codebook=fakes.FakeCodebook.fingerprint, only=only
    )
    return controlled(joined, config), config


def targets(joined, config):
    """Own (episode, step) and the codes that are taught there, of every frame: [N, 2], [N, 16]."""
    data = Dataset([joined], config, ByteTokenizer())
    places, grids = [], []
    for number in range(len(data)):
        row = {name: np.zeros(shape, dtype) for name, (shape, dtype) in data.fields().items()}
        data.fill(row, number, 0, 0)
        assert row["depth_valid_BM"].all()
        places.append(data.place(number)[1:])
        grids.append(row["depth_BMK"][0].astype(int))
    return np.array(places), np.array(grids)


def information(a, b):
    """The mutual information of two sequences of labels, in bits."""
    joint = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(joint, (a, b), 1)
    joint /= joint.sum()
    product = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    return float((joint[joint > 0] * np.log2(joint[joint > 0] / product[joint > 0])).sum())


def histogram(grids):
    """How often each position has each code: [16, 16]."""
    return np.array([np.bincount(column, minlength=16) for column in grids.T])


def test_the_names_of_the_arms_are_presets_of_equal_size():
    sizes = {}
    for name in ("true-codes", *CONTROLS, "no-depth-loss", "no-depth-expert"):
        model = build(load(f"tiny+{name}", fakes.MICRO).model, 0)
        sizes[name] = sum(p.numel() for p in model.parameters())
    assert {sizes[name] for name in CONTROLS} == {sizes["true-codes"]} == {sizes["no-depth-loss"]}
    assert sizes["no-depth-expert"] < sizes["true-codes"]
    model = build(load("tiny+depth-input", fakes.MICRO).model, 0)  # larger, as its preset says
    added = sum(p.numel() for p in model.codes_in.parameters())
    assert sum(p.numel() for p in model.parameters()) == sizes["true-codes"] + added


def test_true_codes_are_the_frames_own():
    places, grids = targets(*arm("true-codes"))
    assert (grids[:, :2] == places).all()
    assert records([arm("true-codes")[0]]) == {}


def test_shuffled_codes_are_each_frames_once_and_of_other_episodes():
    places, grids = targets(*arm("shuffled-codes"))
    assert (grids[:, 0] != places[:, 0]).all()
    assert sorted(map(tuple, grids[:, :2])) == sorted(map(tuple, places))  # a permutation
    true = targets(*arm("true-codes"))[1]
    assert (histogram(grids) == histogram(true)).all()


def test_same_step_codes_are_of_other_episodes_at_that_step():
    places, grids = targets(*arm("same-step-codes"))
    assert (grids[:, 0] != places[:, 0]).all()
    assert (grids[:, 1] == places[:, 1]).all()
    true = targets(*arm("true-codes"))[1]
    assert (histogram(grids) == histogram(true)).all()


def test_random_codes_are_uniform():
    _, grids = targets(*arm("random-codes"))
    counts = np.bincount(grids.ravel(), minlength=16)
    expected = grids.size / 16
    assert ((counts - expected) ** 2 / expected).sum() < 37.7  # chi2, 15 df, p = 0.001
    true = targets(*arm("true-codes"))[1]
    assert (histogram(grids) != histogram(true)).any()


def many(name):
    """Label of a frame (what its picture would show) and of its taught codes, of many episodes."""
    episodes = fakes.FakeEpisodes(count=120, steps=8, size=8)

    def two(episodes):
        """A code that is what the frame shows: 0 or 1, by episode and step."""
        codes, rng = fakes.FakeCodes(episodes, grid=4, codes=16), np.random.default_rng(5)
        for by_camera in codes._codes.values():
            for grids in by_camera.values():
                grids[:] = rng.integers(0, 2, len(grids))[:, None, None]
        return codes

    joined, _ = arm(name, two, episodes)
    true = two(episodes)
    shown, taught = [], []
    for number in range(120):
        key = episodes.episode(number).key
        for step in range(int(episodes.lengths[number])):
            shown.append(int(true.find_grid(key, "main").codes[step][0, 0]))
            taught.append(int(joined.codes.find_grid(key, "main").codes[step][0, 0]) % 2)
    return np.array(shown), np.array(taught)


def test_wrong_codes_tell_nothing_of_their_frame():
    assert information(*many("true-codes")) == pytest.approx(1, abs=0.01)
    for name in CONTROLS:  # 2 N ln 2 I is chi2 of 1 degree of freedom where there is none
        shown, taught = many(name)
        assert 2 * len(shown) * np.log(2) * information(shown, taught) < 10.8, name  # p = 0.001


def test_the_course_is_kept_by_same_step_codes_alone():
    """Codes that are the step: at the same step they say it, shuffled ones do not."""
    episodes = fakes.FakeEpisodes(count=60, steps=8, size=8)
    bits = {}
    for name in CONTROLS:
        places, grids = [], []
        joined, _ = arm(name, told, episodes)
        for number in range(60):
            clip = joined.codes.find_grid(episodes.episode(number).key, "main").codes
            for step in range(int(episodes.lengths[number])):
                places.append(step)
                grids.append(int(clip[step][0, 1]))
        bits[name] = information(np.array(places), np.array(grids))
    assert bits["same-step-codes"] > 2.9  # nearly log2(8)
    assert max(bits["shuffled-codes"], bits["random-codes"]) < 0.3


def test_nothing_of_other_episodes_is_taught():
    """Held-out episodes, and those without codes, give no codes to those that are learnt from."""
    places, grids = targets(*arm("shuffled-codes", only=[0, 2, 5]))
    assert set(places[:, 0]) == set(grids[:, 0]) == {0, 2, 5}


def test_draws_follow_the_seed():
    one, again, other = (targets(*arm("shuffled-codes", seed=s))[1] for s in (0, 0, 1))
    assert (one == again).all()
    assert (one != other).any()
    record = records([arm("shuffled-codes")[0]])["toy"]
    assert (record["kind"], record["seed"], record["alone"]) == ("shuffled", 0, 0)
    assert record == records([arm("shuffled-codes")[0]])["toy"]
    assert record["digest"] != records([arm("shuffled-codes", seed=1)[0]])["toy"]["digest"]


def test_an_absent_camera_gives_and_takes_no_codes():
    def lacking(episodes):
        codes = told(episodes)
        codes.absent.add((episodes.episode(1).key, "main"))
        return codes

    episodes = fakes.FakeEpisodes(count=6, steps=8)
    joined, _ = arm("shuffled-codes", lacking, episodes)
    assert joined.codes.find_grid(episodes.episode(1).key, "main") is None
    sources = {
        int(joined.codes.find_grid(episodes.episode(n).key, "main").codes[step][0, 0])
        for n in (0, 2, 3, 4, 5)
        for step in range(int(episodes.lengths[n]))
    }
    assert sources == {0, 2, 3, 4, 5}


@pytest.mark.parametrize("lengths", [[3, 3], [5, 2, 3], [1, 1, 2], [40, 7, 30, 9]])
def test_exchanges_leave_no_frame_in_its_episode(lengths):
    episode = np.repeat(np.arange(len(lengths)), lengths)
    for seed in range(20):
        exchange = shuffled(np.array(lengths), seed)
        assert (episode[exchange.sources] != episode).all()
        assert sorted(exchange.sources) == list(range(sum(lengths)))


def test_steps_that_one_episode_reaches_take_anothers_end():
    exchange = same_step(np.array([2, 4]), 0)
    assert exchange.alone == 2
    assert [exchange.source(1, step) for step in range(4)] == [(0, 0), (0, 1), (0, 1), (0, 1)]


def test_what_cannot_be_exchanged_is_refused():
    with pytest.raises(ConfigError, match="one holds 5 of 9 frames"):
        shuffled(np.array([5, 4]), 0)
    with pytest.raises(ConfigError, match="there is one"):
        same_step(np.array([5]), 0)
    with pytest.raises(ConfigError, match="no codes are used"):
        arm("shuffled-codes+no-depth-loss")
    with pytest.raises(ConfigError, match="depth_codes"):
        load("tiny", {"data.depth_codes": "wrong"})


def test_a_run_on_wrong_codes_resumes_to_the_same_bits(tmp_path):
    book = fakes.FakeCodebook(codes=16, dim=12)

    def go_on(out, steps):
        joined, config = arm("shuffled-codes", lambda e: fakes.FakeCodes(e, grid=4, codes=16))
        data = Dataset([joined], config, ByteTokenizer())
        options = TrainingOptions(loader_threads=0, checkpoint_every=1, log_every=1)
        stop = iter([False] * steps + [True] * 99)
        train(config, data, out, options, codebook=book, should_stop=lambda: next(stop))

    go_on(tmp_path / "whole", 8)
    go_on(tmp_path / "stopped", 3)
    go_on(tmp_path / "stopped", 8)
    last = [sorted((tmp_path / n / "checkpoints").iterdir())[-1] for n in ("whole", "stopped")]
    assert last[0].name == last[1].name
    weights = [(path / "model.safetensors").read_bytes() for path in last]
    assert weights[0] == weights[1]


def test_fewer_demonstrations_are_nested_and_drawn_by_the_seed():
    joined, config = arm("true-codes", episodes=fakes.FakeEpisodes(count=12))
    used = {
        (most, seed): set(
            fewer(
                joined, config.updated({"data.demonstrations": most, "train.seed": seed})
            ).episodes_used.tolist()
        )
        for most in (0, 2, 5, 99)
        for seed in (0, 1)
    }
    assert len(used[2, 0]) == 2
    assert used[2, 0] < used[5, 0] < used[0, 0] == used[99, 0] == set(range(12))
    assert used[5, 0] != used[5, 1]
