"""Facts of free form that depthtok never wrote, in descriptions whose digests fit: `inspect`,
`report` and `eval-vqvae` read them, or refuse with an error of ours that names the file."""

import json
import os
import random
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from depthtok.cli.main import app
from depthtok.config import digest
from depthtok.errors import CorruptPart, DepthtokError
from depthtok.stores import codebook
from depthtok.stores.codebook import Codebook
from depthtok.stores.spec import ROOT
from tests.commands.trainings import call
from tests.depthtok.stores.test_forged import HOSTILE, _same_fingerprint, places, signed
from vla.training import checkpoint

BEFORE = Path(__file__).parents[1] / "data" / "before"
COUNT = 15 * int(os.environ.get("DEPTHTOK_DAMAGES", "1"))  # 10: ten times as many


def nested(depth):
    """Lists in tables in lists."""
    value = 0
    for level in range(depth):
        value = [value] if level % 2 else {"deeper": value}
    return value


VALUES = [*HOSTILE, nested(40), nested(300), "\ud800", [[["x"]]], {"kind": {"kind": "metres"}}]


def write_codebook(place, content):
    content["fingerprint"] = codebook.fingerprint(content)
    (place / codebook.META).write_text(json.dumps({**content, "digest": digest(content)}))


def write_state(place, content):
    file = checkpoint.steps(place)[-1] / checkpoint.STATE
    file.write_text(json.dumps({**content, "digest": digest(content)}))


def write_root(place, content):
    (place / ROOT).write_text(signed(content))
    _same_fingerprint(place, content)


def read(place, kind):
    """A description without its digests, and where in it facts of free form stand."""
    if kind == "codebook":
        facts, free = json.loads((place / codebook.META).read_text()), ("quality", "training")
    elif kind == "run":
        facts = json.loads((checkpoint.steps(place)[-1] / checkpoint.STATE).read_text())
        free = ("notes", "data", "norms")
    else:
        facts = json.loads((place / ROOT).read_text())["attributes"]["depthtok"]
        facts = {k: v for k, v in facts.items() if k not in ("sha256", "fingerprint", "format")}
        free = ("about", "what", "place")
    return {name: value for name, value in facts.items() if name != "digest"}, free


WRITERS = {
    "codebook": write_codebook,
    "run": write_state,
    "depth": write_root,
    "codes": write_root,
    "episodes": write_root,
}


@pytest.mark.unchecked  # checked calls are deeper than what is nested here
@pytest.mark.parametrize("kind", WRITERS)
def test_inspect_and_report_of_forged_facts(tmp_path, kind):
    forged, rng = shutil.copytree(BEFORE / kind, tmp_path / kind), random.Random(kind)
    before, free = read(forged, kind)
    remedies = []
    for _ in range(COUNT):
        content = json.loads(json.dumps(before))
        inside = [path for path in places(content) if path[0] in free]
        *parents, last = rng.choice(inside)
        table = content
        for key in parents:
            table = table[key]
        table[last] = rng.choice(VALUES)
        WRITERS[kind](forged, content)
        for words in (["inspect", forged], ["report", forged, "--out", tmp_path / "page"]):
            try:
                CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
            except DepthtokError as error:
                remedies.append(error.remedy or f"none: {error.problem}")
            except Exception as error:
                raise AssertionError(f"{words}: {parents} {last} = {table[last]!r:.80}") from error
    assert remedies
    assert not [remedy for remedy in remedies if remedy.startswith("none")]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kind", 5),
        ("kind", "inches"),
        ("frames", "many"),
        ("disparity", [1]),
        ("codes", {"of": []}),
        ("histogram", {"a": 1}),
        ("histogram", ["x"]),
        ("failed", [["a", "b"]]),
        ("failed", [[1, 2, 3]]),
        ("regions", {"robot": {"disparity": {"l1": nested(200)}}}),
        ("flips", {"far": "often"}),
        ("with_sticky", {"flips": 3}),
        pytest.param("continuous", nested(300), marks=pytest.mark.unchecked),
        ("more", nested(30)),
    ],
)
def test_a_quality_report_of_other_types_is_refused_with_its_file(tmp_path, name, value):
    book = shutil.copytree(BEFORE / "codebook", tmp_path / "book")
    content, _ = read(book, "codebook")
    content["quality"][name] = value
    write_codebook(book, content)
    with pytest.raises(CorruptPart, match=r"book/codebook\.json is not as depthtok writes it"):
        Codebook.load(book)


@pytest.mark.parametrize("name", ["disparity", "unquantised", "failed", "frames", "histogram"])
def test_a_quality_report_that_lacks_figures_is_refused_with_its_file(tmp_path, name):
    book = shutil.copytree(BEFORE / "codebook", tmp_path / "book")
    content, _ = read(book, "codebook")
    del content["quality"][name]
    write_codebook(book, content)
    with pytest.raises(CorruptPart, match=r"book/codebook\.json is not as depthtok"):
        call("report", book, "--out", tmp_path / "page")
    if name in ("disparity", "unquantised"):
        with pytest.raises(CorruptPart, match=r"book/codebook\.json is not as depthtok"):
            call("eval-vqvae", book, BEFORE / "depth", "--device", "cpu", "--out", tmp_path / "e")
