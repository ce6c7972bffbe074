"""Files of JSON, a line an object."""

import pytest

from depthtok.disk.json_files import read_json_lines
from depthtok.errors import CorruptPart


def test_only_ends_of_lines_part_the_objects(tmp_path):
    file = tmp_path / "log.jsonl"
    file.write_text('{"said": "one\u2028two\x85three"}\n{"step": 2}\n{"step"', encoding="utf-8")
    assert read_json_lines(file) == [{"said": "one\u2028two\x85three"}, {"step": 2}]


def test_bytes_that_are_no_text_are_named(tmp_path):
    file = tmp_path / "log.jsonl"
    file.write_bytes(b'{"step": 1}\n{"s\xff": 2}\n{"step": 3}\n')
    with pytest.raises(CorruptPart, match="line 2 of"):
        read_json_lines(file)
