"""Where the weights in a directory are from: `hf download --local-dir` leaves, for each file, the
commit that it is of and the hash that the Hub has of it."""

from __future__ import annotations

from pathlib import Path

from depthtok.disk.digests import file_sha256
from pipelines.depth.hf.reference import Reference
from pipelines.depth.origin import WeightsOrigin

RECORDS = Path(".cache", "huggingface", "download")
RECORD_BYTES = 1 << 12  # of a record at most


def origin_of(name: str, reference: Reference) -> WeightsOrigin | None:
    """The commit that all weights in a directory are of, byte for byte; None where a file has no
    record, or has changed since, or for a model of the Hub, which its name says."""
    if not reference.local:
        return None
    folder = Path(reference.source)
    files = [*folder.glob("*.safetensors"), *folder.glob("*.bin")]
    commits = {_commit(folder, path) for path in files}
    commit = commits.pop() if len(commits) == 1 else None
    if commit is None:
        return None
    return WeightsOrigin((name,), f"the Hub's record beside it, commit {commit}")


def _commit(folder: Path, path: Path) -> str | None:
    """The commit of a file that is as the Hub has it; None for any other."""
    record = folder / RECORDS / f"{path.name}.metadata"
    if not record.is_file() or record.stat().st_size > RECORD_BYTES:
        return None
    commit, digest, *_ = (*record.read_text(errors="replace").split(), "", "")
    return commit if digest == file_sha256(path) else None
