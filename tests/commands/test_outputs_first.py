"""An output that cannot be written is refused before the work, whichever command is to write it."""

import errno
import os
from pathlib import Path

import pytest

from depthtok.disk.files import require_writable
from depthtok.errors import OutputError
from tests.commands.trainings import DEMO, call, training


@pytest.fixture(scope="module")
def run(stores, tmp_path_factory):
    """A short training."""
    out = tmp_path_factory.mktemp("run") / "policy"
    call(*training(stores, out, "--steps", 1))
    return out


def commands(stores, run):
    """Every command that writes its result at the end, without --out, and what does its work."""
    depth, codes = stores / "depth", stores / "codes"
    return {
        "inspect-mask": ([stores / "micro.toml"], "vla.model.proof.prove"),
        "audit-depth": (["--estimated", depth, "--truth", depth], "pipelines.audit.audit.audit"),
        "compare": ([codes, codes], "vqvae.quality.agreement.Agreement.of"),
        "eval-depth": (
            [run, "--episodes", stores / "episodes", "--codes", codes, "--device", "cpu"],
            "vla.evaluation.depth_expert.evaluate_depth",
        ),
        "eval-vqvae": ([DEMO, depth, "--device", "cpu"], "vqvae.quality.quality.assess"),
        "report": ([codes], "pipelines.inspect.pages.store_report"),
        "train-vqvae": ([depth, "--device", "cpu"], "vqvae.training.train.train"),
    }


NAMES = (
    "inspect-mask",
    "audit-depth",
    "compare",
    "eval-depth",
    "eval-vqvae",
    "report",
    "train-vqvae",
)


@pytest.mark.parametrize("name", NAMES)
def test_the_output_is_tried_before_the_work(stores, run, tmp_path, monkeypatch, name):
    words, work = commands(stores, run)[name]
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(work, lambda *_, **__: pytest.fail("worked"))
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="cannot") as caught:
            call(name, *words, "--out", out)
        assert "--out" in caught.value.remedy
    assert [path.name for path in tmp_path.iterdir() if "lock" not in path.name] == ["file"]


def test_trying_leaves_nothing(tmp_path):
    require_writable(tmp_path / "new" / "deeper")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "kept").write_text("")
    require_writable(tmp_path / "old")
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["kept"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_a_full_or_closed_place_is_said_at_once(tmp_path, monkeypatch, number):
    def refused(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_bytes", refused)
    with pytest.raises(OutputError, match=os.strerror(number)):
        require_writable(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
