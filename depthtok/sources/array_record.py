"""Rewrites a data set whose shards are array_record files as TFRecord, which depthtok reads.

    pip install array_record
    python -m depthtok.sources.array_record DIR OUT

The records stay as they are, byte for byte; only the files around them change. (tensorflow-datasets
converts into array_record, but not from it.)
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import BinaryIO

from depthtok.disk.files import commit_directory
from depthtok.errors import DepthtokError, MissingPackage, SourceError
from depthtok.sources.features import read_json
from depthtok.sources.shards import INFO
from depthtok.sources.tfrecord import frame

OLD, NEW = "array_record", "tfrecord"


def rewrite(source: Path, out: Path) -> int:
    """Writes the data set in `source` anew in `out`; returns the number of records. Raises
    `SourceError` for another format or a damaged shard, `MissingPackage`."""
    info, shards = read_json(source / INFO), sorted(source.glob(f"*{OLD}*"))
    if info.get("fileFormat") != OLD or not shards:
        raise SourceError(
            f"{source} has {len(shards)} shards of {OLD}, and says {info.get('fileFormat')!r}",
            remedy=f"give the directory with {INFO} and the {OLD} files",
        )
    records = 0
    with commit_directory(out) as directory:
        for shard in shards:
            with (directory / shard.name.replace(OLD, NEW)).open("wb") as file:
                records += _copy(shard, file)
        for path in source.iterdir():
            if path.is_file() and path not in shards:
                shutil.copyfile(path, directory / path.name)
        (directory / INFO).write_text(json.dumps(_info_of_tfrecord(info), indent=2))
    return records


def _info_of_tfrecord(info: dict) -> dict:
    """The content of dataset_info.json, with TFRecord as its format."""
    splits = [dict(split) for split in info.get("splits", [])]
    for split in splits:
        if template := split.get("filepathTemplate"):
            split["filepathTemplate"] = template.replace(OLD, NEW)
    return {**info, "fileFormat": NEW, "splits": splits}


def _copy(shard: Path, file: BinaryIO) -> int:
    """Writes the records of a shard to `file` as TFRecord; returns their number."""
    try:
        from array_record.python.array_record_module import ArrayRecordReader
    except ImportError as error:
        raise MissingPackage(
            f"reading {shard.name} needs the package `array_record`",
            remedy="pip install array_record",
        ) from error
    try:
        reader = ArrayRecordReader(str(shard))
        count = reader.num_records()
        for number in range(count):  # one at a time: an episode may be large
            file.write(frame(reader.read([number])[0]))
        reader.close()
    except (RuntimeError, ValueError, IndexError) as error:
        raise SourceError(
            f"{shard} is damaged: {error}", remedy="download or copy the file again"
        ) from error
    return count


def main(arguments: list[str]) -> int:
    """The command line of this file."""
    if len(arguments) != 2:
        print("usage: python -m depthtok.sources.array_record DIR OUT", file=sys.stderr)
        return 2
    source, out = map(Path, arguments)
    try:
        print(f"{out}: {rewrite(source, out)} records\nnext: depthtok inspect {out}")
    except DepthtokError as error:
        print(f"error: {error.problem}\n  fix: {error.remedy}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
