"""Flags and settings that have another name now: the old one works, and the new one is told."""

from typing import Annotated

from depthtok.api.eval import evaluate
from depthtok.api.interface import face, read
from depthtok.api.parameters import BySet, Flag, Only, Prefix, Renamed
from depthtok.api.settings import listed
from depthtok.api.train_vla import train_vla
from depthtok.api.train_vqvae import train_vqvae
from depthtok.config import RunOptions
from tests.depthtok.cli.test_options import invoking

Options = Annotated[
    RunOptions,
    Only("workers", "limit"),
    BySet("limit"),
    Prefix("", simulators="workers"),
    Renamed(workers="workers", most="limit"),
]


def play(
    options: Options,
    share: Annotated[float, Flag("how often", formerly="weight")] = 1.0,
) -> object:
    """Play."""
    return options.workers, options.limit, share


def test_an_old_flag_works_and_the_new_one_is_told(monkeypatch):
    notes = []
    monkeypatch.setattr("depthtok.cli.options.warn", notes.append)
    run = invoking(play)
    words = ["--workers", "3", "--weight", "0.5", "--set", "most=7"]
    assert run("play", *words) == (3, 7, 0.5)
    assert notes == ["--workers is called --simulators now", "--weight is called --share now"]
    assert run("play", "--simulators", "3", "--share", "0.5") == (3, None, 0.5)
    assert len(notes) == 2


def test_old_names_are_not_shown():
    shown = " ".join(invoking(play)("play", "--help").output.split())
    assert "--simulators" in shown
    assert "--workers" not in shown
    assert "--weight" not in shown
    assert sorted(row.name for row in listed(read(play))) == ["limit", "share", "simulators"]


def test_old_names_work_in_python():
    assert face(play)(workers=2, weight=0.25) == (2, None, 0.25)


def test_the_commands_understand_what_they_were_called():
    old = {"workers": 3}
    assert read(evaluate).bind({"policy": "p", "out": "o", **old}, "x")["options"].workers == 3
    old = {"weight": [1, 2]}
    bound = read(train_vqvae).bind({"depth": ["d"], "out": "o", **old}, "x")
    assert bound["sampling_weight"] == [1.0, 2.0]
    old = {"workers": 5, "set": ["weight=[1, 2]"]}
    bound = read(train_vla).bind({"episodes": ["e"], "out": "o", **old}, "x")
    assert (bound["options"].loader_threads, bound["stores"].sampling_weight) == (5, (1.0, 2.0))
    old = {"set": ["run.workers=6"]}
    bound = read(train_vla).bind({"episodes": ["e"], "out": "o", **old}, "x")
    assert bound["options"].loader_threads == 6
