"""Which texts episodes have, counted over whole stores."""

import numpy as np
import pytest
from typer.testing import CliRunner

from depthtok.cli.main import app
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.instructions import is_empty, notice, read, without
from depthtok.testing import make_rlds

TEXTS = ["pick it up", "", " _ ", "pick it up", "push it", "", "two halves"]
STEPS = 4


def name(number, values):
    texts = [TEXTS[number]] * STEPS
    if number == 6:
        texts = ["two halves", "two halves", "", "push it"]
    values["steps/language_instruction"] = texts


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store of three parts, and what `convert` said."""
    out = tmp_path_factory.mktemp("instructions")
    source = make_rlds(out / "rlds", episodes=7, steps=STEPS, size=16, shards=3, edit=name)
    done = CliRunner().invoke(app, ["convert", str(source), "--out", str(out / "episodes")])
    assert done.exit_code == 0, done.output
    return EpisodeStore(out / "episodes"), done.stdout


def test_all(made):
    instructions = read(made[0])
    assert instructions.texts == {"pick it up": 8, "push it": 5, "two halves": 2}
    assert (instructions.episodes, instructions.empty, instructions.partly) == (7, 3, 1)
    assert without(made[0]).tolist() == [False, True, True, False, False, True, False]


@pytest.mark.parametrize(
    ("only", "texts", "counts"),
    [
        ([0, 1], {"pick it up": 4}, (2, 1, 0)),
        ([4], {"push it": 4}, (1, 0, 0)),
        ([5, 6], {"two halves": 2, "push it": 1}, (2, 1, 1)),
        ([], {}, (0, 0, 0)),
    ],
)
def test_only_some(made, only, texts, counts):
    marks = np.isin(np.arange(7), only)
    instructions = read(made[0], marks)
    assert instructions.texts == texts
    assert (instructions.episodes, instructions.empty, instructions.partly) == counts


def test_convert_and_inspect_say_it(made):
    store, said = made
    assert "3 of 7 episodes (42.9 %) have no instruction" in said
    shown = CliRunner().invoke(app, ["inspect", str(store.path)]).stdout
    assert "3 distinct; 3 of 7 episodes (42.9 %) have none; 1 of 7 episodes" in shown


def test_nothing_is_said_where_all_have_one(tmp_path):
    source = make_rlds(tmp_path / "rlds", episodes=2, steps=2, size=16)
    assert CliRunner().invoke(app, ["convert", str(source), "--out", str(tmp_path / "e")])
    assert notice(tmp_path / "e") == []
    assert not without(EpisodeStore(tmp_path / "e")).any()
    assert notice(tmp_path / "rlds") == []


@pytest.mark.parametrize(("text", "empty"), [("", True), (" _\n", True), (".", False)])
def test_what_is_empty(text, empty):
    assert is_empty(text) is empty
