"""Progress lines, the terminal bar, numbers for people, and who owns which stream."""

import io
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import tqdm

from depthtok import log
from depthtok.errors import ConfigError
from depthtok.format import human_bytes, human_count, human_duration, human_number
from depthtok.progress import progress


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_every_interval_and_one_at_the_end():
    clock, out = Clock(), io.StringIO()
    with progress(1000, "frames", "label", clock=clock, stream=out) as bar:
        for _ in range(10):
            clock.now += 10
            bar.advance(50, loss=0.123456, busy="93%")
    assert out.getvalue().splitlines() == [
        "label: 150/1,000 frames (15%), 5 frames/s, loss=0.1235, busy=93%, 2 min 50 s left",
        "label: 300/1,000 frames (30%), 5 frames/s, loss=0.1235, busy=93%, 2 min 20 s left",
        "label: 450/1,000 frames (45%), 5 frames/s, loss=0.1235, busy=93%, 1 min 50 s left",
        "label: 500/1,000 frames (50%), 5 frames/s, loss=0.1235, busy=93%, done after 1 min 40 s",
    ]


def test_work_done_before_counts_for_the_share_but_not_for_the_rate():
    clock, out = Clock(), io.StringIO()
    with progress(100, done=80, clock=clock, stream=out, interval=1) as bar:
        clock.now += 10
        bar.advance(10)
    assert out.getvalue().splitlines()[0] == "90/100 items (90%), 1 items/s, 10 s left"


def test_the_rate_of_a_resumed_training_begins_with_its_first_step():
    clock, out = Clock(), io.StringIO()
    with progress(1600, "steps", clock=clock, stream=out, interval=10) as bar:
        clock.now += 60  # to load, and to take the first step
        for step in range(1001, 1022):
            bar.reach(step, loss=0.5)
            clock.now += 2
    first, second, *_, last = out.getvalue().splitlines()
    assert first == "1,001/1,600 steps (62%), loss=0.5"
    assert second == "1,006/1,600 steps (62%), 0.5 steps/s, loss=0.5, 19 min 48 s left"
    assert last == "1,021/1,600 steps (63%), 0.4762 steps/s, loss=0.5, done after 1 min 42 s"


def test_a_terminal_counts_the_same_way(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("tqdm.std.time", clock)
    out = Terminal()
    with progress(1600, "steps", stream=out) as bar:
        clock.now += 60
        for step in range(1001, 1022):
            bar.reach(step)
            clock.now += 2
    last = out.getvalue().split("\r")[-1]
    assert "1021/1600" in last
    assert " 2.10s/ steps" in last or " 2.00s/ steps" in last


@pytest.mark.parametrize("total", [None, 0, 3])
def test_no_time_left_is_claimed_where_none_is_known(total):
    clock, out = Clock(), io.StringIO()
    with progress(total, clock=clock, stream=out, interval=0) as bar:
        bar.advance(0)
        bar.advance(5)
        clock.now += 1
        bar.advance(0)
    assert "nan" not in out.getvalue().lower()
    assert "inf" not in out.getvalue().lower()
    assert "left" not in out.getvalue()


def test_an_error_ends_the_block_with_a_line_and_passes_on():
    out = io.StringIO()
    with pytest.raises(KeyError), progress(9, label="x", clock=Clock(), stream=out):
        raise KeyError
    assert out.getvalue() == "x: 0/9 items (0%), stopped after 0.0 s\n"


@pytest.mark.parametrize("widgets", [True, False])
def test_a_notebook_has_bars_of_its_own(monkeypatch, capsys, widgets):
    bars = []

    class Widget(tqdm.tqdm):
        def __init__(self, **named):
            super().__init__(**named)
            bars.append(self)

    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    monkeypatch.setitem(sys.modules, "ipywidgets", ModuleType("ipywidgets") if widgets else None)
    notebook = ModuleType("tqdm.notebook")
    notebook.tqdm = Widget
    monkeypatch.setitem(sys.modules, "tqdm.notebook", notebook)
    with progress(3, "frames") as bar:
        bar.advance(2, loss=1.0)
    assert [bar.n for bar in bars] == ([2] if widgets else [])
    assert ("done after" in capsys.readouterr().err) != widgets
    with progress(3, "frames", stream=io.StringIO()) as bar:
        bar.advance(1)
    assert len(bars) == widgets


def test_bars_on_a_terminal_may_be_nested():
    out = Terminal()
    with progress(2, "parts", "outer", stream=out) as outer:
        for _ in range(2):
            with progress(3, "frames", "inner", stream=out) as inner:
                for _ in range(3):
                    inner.advance(1, loss=1.5)
            outer.advance()
    assert "loss=1.5" in out.getvalue()
    assert "outer: 100%" in out.getvalue()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (human_bytes(0), "0 B"),
        (human_bytes(999), "999 B"),
        (human_bytes(1500), "1.5 KB"),
        (human_bytes(999_999), "1.0 MB"),
        (human_bytes(94e9), "94 GB"),
        (human_bytes(2e18), "2000 PB"),
        (human_count(999), "999"),
        (human_count(1234), "1.2k"),
        (human_count(250_000), "250k"),
        (human_count(-3_100_000), "-3.1M"),
        (human_count(float("nan")), "unknown"),
        (human_duration(0.42), "0.4 s"),
        (human_duration(9.97), "10 s"),
        (human_duration(59.6), "1 min 00 s"),
        (human_duration(185), "3 min 05 s"),
        (human_duration(7620), "2 h 07 min"),
        (human_duration(5 * 86400 + 3 * 3600), "5 d 3 h"),
        (human_duration(float("inf")), "unknown"),
        (human_number(1234567), "1,234,567"),
        (human_number(0.000123456), "0.0001235"),
        (human_number(13107.4), "13,107"),
        (human_number(3e12), "3e+12"),
        (human_number("93%"), "93%"),
        (human_number(True), "True"),
    ],
)
def test_numbers_for_people(call, text):
    assert call == text


def test_words_leave_stdout_to_the_result(capsys):
    log.say("made 3 parts", "next: depthtok inspect x", json=True)
    log.result({"out": Path("a/b"), "parts": 3})
    log.warn("slow disk")
    out, err = capsys.readouterr()
    assert json.loads(out) == {"out": "a/b", "parts": 3}
    assert err == "made 3 parts\nnext: depthtok inspect x\nwarning: slow disk\n"
    log.say("hello")
    assert capsys.readouterr().out == "hello\n"


def test_what_is_refused_before_it_begins_has_no_line():
    out = io.StringIO()
    with pytest.raises(ConfigError), progress(9, label="x", stream=out):
        raise ConfigError("no", remedy="give another")
    assert out.getvalue() == ""


def test_what_fails_later_has_one():
    out = io.StringIO()

    def work():
        with progress(9, label="x", stream=out) as bar:
            bar.advance()
            raise ConfigError("no", remedy="give another")

    with pytest.raises(ConfigError):
        work()
    assert "1/9 items (11%)" in out.getvalue()


class Narrow(Terminal):
    """A terminal of so many columns, whose lines are what is shown last."""

    def lines(self) -> list[str]:
        return [line for line in self.getvalue().replace("\n", "\r").split("\r") if line.strip()]


def bar_of(line: str) -> str:
    return line.partition("|")[2].partition("|")[0]


@pytest.mark.parametrize("columns", [50, 60, 80, 120])
def test_the_bar_keeps_its_columns(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("tqdm.utils._screen_shape_wrapper", lambda: lambda _: (columns, 24))
    monkeypatch.setattr("tqdm.std._screen_shape_wrapper", lambda: lambda _: (columns, 24))
    monkeypatch.setattr("tqdm.std.time", Clock())
    out = Narrow()
    with progress(800, "steps", "train-vqvae runs/a/long/way/to/the/codebook", stream=out) as bar:
        bar.advance(400, loss=0.123456, l1=0.0378, grad_norm=0.41, codes=256, perplexity=171.2)
        bar.refresh()
        last = out.lines()[-1]
    assert len(last) <= columns
    assert len(bar_of(last)) >= 10
    assert abs(bar_of(last).count("#") / len(bar_of(last)) - 0.5) < 0.1
    assert "400/800" in last
    assert ("loss=0.1235" in last) == (columns >= 120)
    assert last.startswith("train")
    assert "book:" in last


def test_bars_of_stages_are_below_the_bar_of_the_run():
    out = Terminal()
    with progress(5, "stages", "run", stream=out, plain=False) as run:
        run.advance(2)
        with progress(9, "frames", "annotate", stream=out) as stage:
            assert (abs(run.pos), abs(stage.pos)) == (0, 1)
            stage.advance(9)
    assert "2/5" in out.getvalue()
    assert "9/9" in out.getvalue()


def test_what_is_not_for_plain_streams_is_silent_there():
    out = io.StringIO()
    with progress(5, "stages", "run", stream=out, plain=False) as bar:
        bar.advance(5)
    assert out.getvalue() == ""


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_quiet_shows_no_progress_and_no_advice(monkeypatch, capsys, kind):
    monkeypatch.setenv(log.QUIET, "1")
    out = kind()
    with progress(3, "frames", "label", stream=out) as bar:
        bar.advance(1, loss=1.0)
        bar.reach(3)
    log.suggest("depthtok report x")
    log.title("[1/2] annotate")
    log.say("x: 3 episodes")
    log.warn("look out")
    assert out.getvalue() == ""
    assert capsys.readouterr() == ("x: 3 episodes\n", "warning: look out\n")


def test_lines_are_printed_above_the_bars(monkeypatch):
    out = Terminal()
    monkeypatch.setattr(sys, "stderr", out)
    with progress(3, "frames", "label") as bar:
        bar.refresh()
        log.warn("look out")
        shown = out.getvalue()
    before, _, after = shown.partition("look out")
    assert re.search(r"label.*\r +\r[^ ]*warning:", before)  # the bar was cleared
    assert re.match(r"\n\r?label", after)  # and is there again


@pytest.mark.parametrize(
    ("environment", "stream", "colour"),
    [
        ({}, Terminal(), True),
        ({}, io.StringIO(), False),
        ({"NO_COLOR": "1"}, Terminal(), False),
        ({"NO_COLOR": ""}, Terminal(), True),
        ({"TERM": "dumb"}, Terminal(), False),
    ],
)
def test_colours_are_for_terminals_that_want_them(monkeypatch, environment, stream, colour):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    expected = "\x1b[31;1merror:\x1b[0m" if colour else "error:"
    assert log.coloured("error:", log.RED, stream) == expected
