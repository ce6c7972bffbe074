"""What lies beyond an episode is not given out as its own: the next one's rows lie there."""

import numpy as np
import pytest

import depthtok
from depthtok.errors import SourceError
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.testing import make_rlds
from pipelines.inspect.trail import Trail

STEPS, CAMERA = 3, "image"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("within")
    rlds = make_rlds(folder / "set/1.0.0", episodes=2, steps=STEPS, size=8, shards=1)
    depthtok.convert(rlds, out=folder / "episodes")
    depthtok.annotate(folder / "episodes", out=folder / "depth", estimator="dataset", size=8)
    return folder


@pytest.mark.parametrize("span", [(0, STEPS + 1), (STEPS, STEPS + 1), (-1, 1), (2, 1)])
def test_frames_of_another_episode_are_refused(folder, span):
    words = rf"has 3 frames: there are no frames {span[0]} to {span[1]}"
    for episode in EpisodeStore(folder / "episodes"):
        frames = episode.frames(CAMERA)
        for read in (frames.read, frames.true_depth):
            with pytest.raises(SourceError, match=words):
                read(*span)
    for clip in DepthStore(folder / "depth").clips(CAMERA):
        with pytest.raises(SourceError, match=words):
            clip.read(*span)


def test_no_frames_are_an_empty_array(folder):
    frames = EpisodeStore(folder / "episodes").episode(0).frames(CAMERA).read(1, 1)
    assert (frames.shape, frames.dtype) == ((0, 8, 8, 3), np.uint8)


def test_episodes_and_steps_are_numbered_as_items_of_a_list(folder):
    store = EpisodeStore(folder / "episodes")
    first, last = store
    assert store.episode(-1).key == last.key
    assert store.locate(-1) == (1, STEPS - 1)
    assert (first.instruction(-1), last.instruction(-STEPS)) == ("move box 0", "move box 1")
    for number in (2, -3):
        with pytest.raises(IndexError):
            store.episode(number)
    for step in (STEPS, -STEPS - 1):
        for text in (first.instruction, first.instructions, last.instruction):
            with pytest.raises(IndexError):
                text(step)
    for step in (2 * STEPS, -2 * STEPS - 1):
        with pytest.raises(IndexError):
            store.locate(step)


def test_a_page_of_depth_shows_no_episode_that_is_shorter_by_now(tmp_path):
    def made(steps):
        rlds = make_rlds(tmp_path / "set/1.0.0", episodes=2, steps=steps, size=8, shards=1)
        depthtok.convert(rlds, out=tmp_path / "episodes")

    made([3, 3])
    depthtok.annotate(tmp_path / "episodes", out=tmp_path / "depth", estimator="dataset", size=8)
    made([1, 3])
    trail = Trail.of(DepthStore(tmp_path / "depth"))
    first, last = (trail.episode(key) for key, _ in trail.lengths())
    assert (first, len(last)) == (None, 3)
    assert depthtok.report(tmp_path / "depth", out=tmp_path / "page").page.is_file()
