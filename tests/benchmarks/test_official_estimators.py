"""The one command that compares all published estimators."""

from pathlib import Path

import official_estimators as official
import pytest

from pipelines.depth.registry import ESTIMATORS


@pytest.fixture
def typed(monkeypatch):
    """The commands that are run; `annotate` with vitl fails, as where its weights are not had."""
    commands = []

    def run(*words):
        commands.append([str(word) for word in words])
        return 2 if "vitl" in words else 0

    monkeypatch.setattr(official, "depthtok", run)
    return commands


def test_every_estimator_is_known():
    assert set(official.ESTIMATORS) <= set(ESTIMATORS)


def test_one_without_weights_is_named_and_left_out(typed, capsys):
    assert official.compare(["vits", "vitl", "da3-base"], Path("out"), ["--size", "64"]) == 1
    assert "not in the table: vitl" in capsys.readouterr().out
    assert [words[0] for words in typed] == ["convert", *["annotate"] * 4, "audit-depth"]
    assert typed[2][-3:] == ["vits", "--size", "64"]
    *_, audit = typed
    assert audit[1:5] == ["--estimated", "out/vits", "--estimated", "out/da3-base"]
    assert audit[5:7] == ["--truth", "out/true-depth"]


def test_none_at_all_is_a_failure(typed):
    assert official.compare(["vitl"], Path("out")) == 1
    assert typed[-1][0] == "annotate"


def test_all_in_the_table_is_success(typed):
    assert official.compare(["vits", "vitb"], Path("out")) == 0
