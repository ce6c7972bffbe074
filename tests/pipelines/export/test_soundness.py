"""verify: an export has the bytes that were written, or what differs is named."""

import json

import pytest

import depthtok
from depthtok.errors import CorruptPart
from depthtok.testing import make_rlds
from pipelines.export.work import ExportDirectory
from tests.commands.trainings import call
from tests.pipelines.export.stores import exported, made


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return made(folder, make_rlds(folder / "rlds", episodes=2, steps=3, size=64))


@pytest.mark.parametrize(
    ("format", "file"),
    [("lerobot", "data/chunk-000/file-000.parquet"), ("rlds", "schema.toml")],
)
def test_what_was_changed_cut_or_lost_is_named(stores, tmp_path, format, file):
    out = tmp_path / "out"
    exported(stores, out, "--format", format)
    assert f"{out} is sound" in call("verify", out)
    path = out / file
    data = path.read_bytes()
    changed = data[:40] + bytes([data[40] ^ 1]) + data[41:]
    for content, problem in (
        (changed, "has other bytes than were exported"),
        (data[:-1], f"has {len(data) - 1:,} bytes, {len(data):,} were exported"),
        (None, "is missing"),
    ):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        (finding,) = depthtok.verify(out).damages
        assert finding.problem == f"{path} {problem}"
        call("verify", out, code=1)


def test_a_record_that_was_changed_is_refused(stores, tmp_path):
    exported(stores, tmp_path / "out")
    record = tmp_path / "out/meta/depthtok.json"
    record.write_text(json.dumps({"files": {"a": "b"}}))
    with pytest.raises(CorruptPart, match=r"depthtok\.json"):
        depthtok.verify(tmp_path / "out")


@pytest.mark.parametrize(("format", "folder"), [("lerobot", "meta"), ("rlds", ".")])
def test_what_another_host_left_is_no_part_of_an_export(
    stores, tmp_path, monkeypatch, format, folder
):
    out = tmp_path / "out"
    remains = out / folder / ".tmp-x-train.tfrecord-00000-of-00001~elsewhere.1.2~5~6~ab"
    begin = ExportDirectory.begin

    def begun_elsewhere(self):
        remains.parent.mkdir(parents=True, exist_ok=True)
        remains.write_bytes(b"half")
        begin(self)

    monkeypatch.setattr(ExportDirectory, "begin", begun_elsewhere)
    exported(stores, out, "--format", format)
    remains.unlink()
    assert f"{out} is sound" in call("verify", out)
