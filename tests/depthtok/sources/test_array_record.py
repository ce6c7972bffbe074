"""Data sets that tensorflow-datasets keeps as array_record: the remedy is what it says."""

import json
import shlex
import subprocess
import sys

import pytest

from depthtok.errors import SourceError
from depthtok.sources.array_record import main, rewrite
from depthtok.sources.rlds import RldsDirectory
from depthtok.sources.tfrecord import read_records
from depthtok.testing import make_rlds

module = pytest.importorskip("array_record.python.array_record_module")


@pytest.fixture
def kept(tmp_path):
    """The same data set as TFRecord, and as array_record."""
    path, other = make_rlds(tmp_path / "one"), tmp_path / "two words"
    other.mkdir()
    for shard in path.glob("*.tfrecord*"):
        name = shard.name.replace("tfrecord", "array_record")
        writer = module.ArrayRecordWriter(str(other / name), "group_size:1")
        for record in read_records(shard):
            writer.write(record.data)
        writer.close()
    info = json.loads((path / "dataset_info.json").read_text())
    (other / "dataset_info.json").write_text(json.dumps({**info, "fileFormat": "array_record"}))
    (other / "features.json").write_bytes((path / "features.json").read_bytes())
    return path, other


def test_the_remedy_works_as_it_is_told(kept, tmp_path):
    path, other = kept
    with pytest.raises(SourceError, match="stored as 'array_record'") as caught:
        RldsDirectory.open(other)
    command = caught.value.remedy.split("`")[3].replace("OUT", str(tmp_path / "out"))
    program, *arguments = shlex.split(command)
    assert program == "python"
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    RldsDirectory.open(tmp_path / "out")
    for shard in path.glob("*.tfrecord*"):
        assert (tmp_path / "out" / shard.name).read_bytes() == shard.read_bytes()


def test_what_cannot_be_rewritten_is_refused(kept, tmp_path, capsys):
    path, other = kept
    with pytest.raises(SourceError, match="has 0 shards of array_record, and says 'tfrecord'"):
        rewrite(path, tmp_path / "out")
    shard = sorted(other.glob("*.array_record*"))[0]
    shard.write_bytes(shard.read_bytes()[:-200])
    assert main([str(other), str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {shard} is damaged")
    assert not (tmp_path / "out").exists()
    assert main([]) == 2


def test_a_second_format_beside_tfrecord_is_no_matter(kept):
    path, _ = kept
    file = path / "dataset_info.json"
    info = json.loads(file.read_text())
    for one, other in (("array_record", "tfrecord"), ("tfrecord", "array_record")):
        formats = {"fileFormat": one, "alternativeFileFormats": [other]}
        file.write_text(json.dumps({**info, **formats}))
        assert RldsDirectory.open(path).splits["train"].episodes == 6
