"""Which episodes train a codebook and which judge it; what the codebook says of it later."""

from __future__ import annotations

from dataclasses import replace

import pytest

from depthtok.data import EpisodeKey
from depthtok.errors import ConfigError
from depthtok.held_out import place
from depthtok.stores.codebook import Codebook
from tests.vqvae.synthetic import scenes, tiny
from vqvae.config import TrainOptions
from vqvae.data.clips import ClipSource
from vqvae.data.sides import Sides, learnt_from, split, split_before
from vqvae.training import start as starting
from vqvae.training import train as training


def keys(sources):
    return [{str(clip.key) for clip in source.clips} for source in sources]


@pytest.fixture(
    params=[lambda s, share: split(s, share), lambda s, share: split_before(s, share, 0)]
)
def rule(request):
    return request.param


def test_a_split_is_by_episode_and_does_not_depend_on_order(rule, source):
    both = [*source.clips, *(replace(clip, camera="wrist") for clip in source.clips)]
    sides = rule([replace(source, clips=both)], 0.3)
    assert not keys(sides.learn)[0] & keys(sides.held_out)[0]
    assert len(sides.held_out[0].clips) % 2 == 0
    assert keys(rule([replace(source, clips=both[::-1])], 0.3).learn) == keys(sides.learn)


def test_more_episodes_move_none_to_the_other_side(rule):
    few, many = (ClipSource("s", "f", scenes(n, frames=1)) for n in (20, 30))
    assert keys(rule([few], 0.3).held_out)[0] <= keys(rule([many], 0.3).held_out)[0]


def test_each_side_gets_an_episode(rule, source):
    for share in (0.001, 0.999):
        sides = rule([source], share)
        assert sides.learn[0].clips
        assert sides.held_out[0].clips
    assert not rule([source], 0.0).held_out[0].clips
    with pytest.raises(ConfigError, match="one episode"):
        rule([replace(source, clips=source.clips[:1])], 0.1)


def test_the_seed_no_longer_matters_and_every_data_set_is_judged():
    sources = [ClipSource(name, "f", scenes(4, frames=1)) for name in ("a", "b")]
    assert all(len(side.clips) for side in split(sources, 0.01).held_out)
    config = tiny()
    runs = [starting._split(config.with_training(seed=n), sources, None) for n in (0, 5)]
    assert keys(runs[0].held_out) == keys(runs[1].held_out)


EPISODES = [EpisodeKey("toy", "1.0.0", "train", 0, 1, n) for n in range(40)]


def clips():
    return [
        replace(clip, key=key)
        for clip, key in zip(scenes(len(EPISODES), frames=1), EPISODES, strict=True)
    ]


@pytest.mark.parametrize("name", ["key", "before", "given"])
def test_a_codebook_knows_which_episodes_it_learnt_from(name):
    sources = [ClipSource("toy", "f", clips())]
    sides = {
        "key": split(sources, 0.25),
        "before": split_before(sources, 0.25, 3),
        "given": Sides(
            [ClipSource("toy", "f", clips()[7:])], [ClipSource("toy", "f", clips()[:7])]
        ),
    }[name]
    data = sides.to_json() if name != "before" else {"sources": [{"name": "toy"}]}
    judged = [clip.key for clip in sides.held_out[0].clips]
    data["held_out"] = sorted(f"toy|{key}" for key in judged[:2])  # the report's own, a few
    meta = {"data": data, "training": {"held_out": 0.25, "seed": 3}}
    assert len(judged) > 3
    assert learnt_from(meta, judged) == 0
    assert learnt_from(meta, EPISODES) == len(EPISODES) - len(judged)
    other = [replace(key, dataset="other") for key in EPISODES]
    assert learnt_from(meta, other) == 0


def test_tasks_held_out_before_they_were_recorded_are_not_guessed():
    held = [f"toy|{key}" for key in EPISODES[:12]]
    data = {"sources": [{"name": "toy"}], "held_out": held}
    assert learnt_from({"data": data, "training": {"held_out": 0.1, "seed": 0}}, EPISODES) is None


def codebook(tmp_path, source, stop_after=None):
    steps = []
    training.train(
        tiny(6),
        [source],
        tmp_path / "book",
        TrainOptions(device="cpu"),
        on_step=lambda step, figures: steps.append(step),
        should_stop=lambda: stop_after is not None and len(steps) >= stop_after,
    )
    return steps


@pytest.mark.parametrize("stop", [3, None])
def test_a_codebook_begun_by_the_former_rule_goes_on_with_it(tmp_path, source, stop, monkeypatch):
    judged = keys(split_before([source], 0.3, 0).held_out)[0]
    assert judged != keys(split([source], 0.3).held_out)[0]
    with monkeypatch.context() as patch:
        patch.setattr(starting, "split", lambda s, share: split_before(s, share, 0))
        assert len(codebook(tmp_path, source, stop)) == (stop or 6)
    assert len(codebook(tmp_path, source)) == (6 - stop if stop else 0)
    book = Codebook.load(tmp_path / "book")
    assert {name.partition("|")[2] for name in book.meta["data"]["held_out"]} == judged
    assert book.meta["data"]["held_out_rule"] == ""


def test_a_new_codebook_records_the_rule(tmp_path, source):
    codebook(tmp_path, source)
    data = Codebook.load(tmp_path / "book").meta["data"]
    limit = data["sources"][0]["held_out_below"]
    assert data["held_out_rule"] == "key"
    assert data["held_out"] == sorted(
        f"synthetic|{c.key}" for c in source.clips if place(f"synthetic|{c.key}") < limit
    )
