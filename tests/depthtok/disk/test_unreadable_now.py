"""Files that cannot be read now: that is said, none is called damaged, and nothing is dropped."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from depthtok.disk.files import output_errors
from depthtok.disk.json_files import read_json_object
from depthtok.disk.regular import of_the_system
from depthtok.disk.tensors import save_tensors
from depthtok.errors import OutputError, SourceUnavailable
from depthtok.stores.depth import DepthStore
from depthtok.stores.manifest import MANIFEST
from depthtok.stores.verify import repair, verify_store
from pipelines.evaluate.trials import Evaluation
from vla.training import checkpoint
from vla.training.runlog import Entries
from vla.training.soundness import findings

BEFORE = Path(__file__).parents[2] / "data" / "before"


@pytest.fixture(params=[errno.EIO, errno.EACCES, errno.EPERM], ids=errno.errorcode.get)
def troubled(tmp_path, monkeypatch, request):
    """A sound store of which one manifest gives an error."""
    store = shutil.copytree(BEFORE / "depth", tmp_path / "depth")
    part = sorted((store / "parts").glob("train*"))[1]
    real = Path.read_bytes

    def failing(path):
        if path == part / MANIFEST:
            raise OSError(request.param, os.strerror(request.param))
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", failing)
    return store, part


def test_a_part_that_cannot_be_read_now_is_not_dropped(troubled):
    store, part = troubled
    with pytest.raises(SourceUnavailable, match=r"cannot be read now \((In|Perm|Op)"):
        DepthStore(store).part(part.name)
    findings = list(verify_store(store))
    assert [f for f in findings if f.can_be_dropped] == []
    assert any("cannot be read now" in f.problem for f in findings)
    assert repair(store, findings) == []
    assert part.is_dir()


@pytest.mark.parametrize("number", ["EIO", "ESTALE", "ETIMEDOUT", "EMFILE", "ENOENT"])
def test_writers_say_what_passes(tmp_path, number):
    with pytest.raises(OutputError) as caught, output_errors(tmp_path):
        raise OSError(getattr(errno, number), "words")
    assert "run" in caught.value.remedy
    assert "again" in caught.value.remedy


def test_what_nobody_knew_a_file_for_is_said_at_the_end():
    full = of_the_system(OSError(errno.ENOSPC, "No space left on device", "/x"))
    assert full.problem == "/x: No space left on device"
    assert "free some space" in full.remedy
    assert "permissions" in of_the_system(OSError(errno.EACCES, "no")).remedy
    assert of_the_system(OSError(errno.EBADF, "Bad file descriptor")) is None
    assert of_the_system(BrokenPipeError(errno.EPIPE, "Broken pipe")) is None


def test_a_gpu_that_fails_is_told_from_other_errors_of_torch():
    failed = of_the_system(RuntimeError("backend raised:\n  CUDA error: misaligned address\nsee"))
    assert failed.problem == "the GPU failed: CUDA error: misaligned address"
    assert "nvidia-smi" in failed.remedy
    memory = of_the_system(RuntimeError("CUDA error: out of memory"))
    assert memory.problem.startswith("there is not enough memory")
    for other in ("CUDA error: operation not permitted when stream is capturing", "shape"):
        assert of_the_system(RuntimeError(other)) is None


def test_tensors_that_cannot_be_written_are_an_error_of_the_system(tmp_path):
    import torch

    with pytest.raises(OSError, match="No such file") as caught:
        save_tensors({"a": torch.zeros(2)}, tmp_path / "absent" / "x.safetensors")
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EPERM])
def test_what_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch, number):
    def refused(*_):
        raise OSError(number, os.strerror(number))

    (tmp_path / "metrics.jsonl").write_text("{}\n")
    monkeypatch.setattr(Path, "read_bytes", refused)
    for read in (lambda path: read_json_object(path, "delete it"), Entries.read):
        with pytest.raises(SourceUnavailable, match="cannot be read now"):
            read(tmp_path / "metrics.jsonl")


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_a_folder_that_cannot_be_listed_is_not_empty(tmp_path, monkeypatch, number):
    """`Path.glob` takes it for one: a training would start over, an evaluation have no trial."""
    (tmp_path / "checkpoints" / "step-000002").mkdir(parents=True)
    (tmp_path / "checkpoints" / "step-000001").mkdir()
    (tmp_path / "trials").mkdir()
    assert [path.name for path in checkpoint.steps(tmp_path)] == ["step-000001", "step-000002"]
    assert checkpoint.steps(tmp_path / "nothing") == []

    def refused(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "listdir", refused)
    monkeypatch.setattr(os, "scandir", refused)
    for look in (
        checkpoint.steps,
        checkpoint.newest_step,
        lambda run: list(findings(run)),
        lambda path: Evaluation(path, {"tasks": {}}).outcomes,
        lambda path: Evaluation(path, {}).videos(),
    ):
        with pytest.raises(SourceUnavailable, match="cannot be listed now"):
            look(tmp_path)


def without_rights(monkeypatch, number, *paths):
    """Opening any of these files for reading fails, as it does for another user."""
    import io

    for module, name in ((io, "open"), (os, "open")):
        real = getattr(module, name)

        def refused(path, *args, real=real, **more):
            if str(path) in map(str, paths):
                raise OSError(number, os.strerror(number), str(path))
            return real(path, *args, **more)

        monkeypatch.setattr(module, name, refused)


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_verify_lists_every_file_of_a_run_that_cannot_be_read_now(tmp_path, monkeypatch, number):
    run = shutil.copytree(BEFORE / "run", tmp_path / "run")
    step = checkpoint.steps(run)[-1]
    assert [finding for finding in findings(run) if not finding.note] == []
    away = [step / "model.safetensors", step / "optimizer.safetensors", run / "metrics.jsonl"]
    without_rights(monkeypatch, number, *away)
    problems = [finding for finding in findings(run) if not finding.note]
    for path in away:
        assert any(f"{path} cannot be read now" in problem.problem for problem in problems), path
    assert not any(
        problem.can_be_dropped or "not the file" in problem.problem for problem in problems
    )


def test_verify_of_an_unreadable_array_drops_nothing(tmp_path, monkeypatch):
    store = shutil.copytree(BEFORE / "depth", tmp_path / "depth")
    array = next(path for path in sorted(store.rglob("*")) if "/c/" in str(path) and path.is_file())
    without_rights(monkeypatch, errno.EACCES, array)
    findings_of_store = list(verify_store(store))
    assert any(f"{array} cannot be read now" in finding.problem for finding in findings_of_store)
    assert not any(finding.can_be_dropped for finding in findings_of_store)


def test_what_may_not_be_read_has_a_remedy_of_its_own(tmp_path):
    """Raw errors do not say whether they come from reading: a file that is there was to be read."""
    (tmp_path / "there").write_text("")
    read = of_the_system(PermissionError(errno.EACCES, "Permission denied", f"{tmp_path}/there"))
    assert "see that it may be read" in read.remedy
    assert "another place" not in read.remedy
    written = of_the_system(PermissionError(errno.EACCES, "no", f"{tmp_path}/new"))
    assert "choose another place" in written.remedy
    fixed = of_the_system(OSError(errno.EROFS, "Read-only", f"{tmp_path}/there"))
    assert "choose another place" in fixed.remedy


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_no_reader_calls_an_unreadable_file_damaged(tmp_path, monkeypatch, number):
    from depthtok.config import load_toml
    from depthtok.disk.sealed import require_sound
    from depthtok.sources.features import read_json
    from depthtok.sources.schema import Schema

    file = tmp_path / "x.toml"
    file.write_text("a = 1")
    without_rights(monkeypatch, number, file)
    for read in (load_toml, read_json, Schema.load, lambda path: require_sound(path, "no")):
        with pytest.raises(SourceUnavailable, match=r"x.toml cannot be read now"):
            read(file)
