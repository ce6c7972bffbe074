"""Sends a publication to the Hub: in commits, and last the one that makes something of it.

What is there already is not sent again, so a push that was cut goes on by the same command. Nobody
takes a half of it for the whole: until the last commit, the file that names the others is missing,
or is that of before.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete
from huggingface_hub.hf_api import RepoFile

from depthtok.errors import ConfigError, OutputError, SourceUnavailable
from depthtok.progress import progress
from depthtok.remote.errors import AGAIN, Trouble
from depthtok.remote.hub import client, in_words
from depthtok.remote.repository import Repository
from pipelines.push.card import FILE
from pipelines.push.outgoing import Entry, Outgoing, OutgoingBytes
from pipelines.push.publication import ALWAYS, NAMES, Publication

MOST_FILES, MOST_BYTES = 100, 2 << 30  # of one commit
_ALWAYS = re.compile(ALWAYS)


@dataclass(frozen=True)
class Pushed:
    """What lies on the Hub now. `url` names the commit; `kept` files were there already."""

    what: str
    url: str
    page: str
    identity: str
    files: int
    kept: int
    bytes: int  # sent
    commits: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class HubBranch:
    """A branch of a repository as it was listed: its newest commit, and the files there."""

    repository: Repository
    head: str
    entries: Mapping[str, Entry]

    @classmethod
    def listed(cls, repository: Repository) -> HubBranch:
        """The branch as it is now. Raises `Missing`, `Refused` and `Trouble`."""
        name, revision, kind = repository.name, repository.revision or None, repository.kind
        with in_words(repository.url):
            info = client().repo_info(name, repo_type=kind, revision=revision)
            tree = list(
                client().list_repo_tree(name, recursive=True, revision=info.sha, repo_type=kind)
            )
        files = [entry for entry in tree if isinstance(entry, RepoFile)]
        entries = {f.path: Entry(f.path, f.size, _sha256(f), f.blob_id) for f in files}
        return cls(repository, info.sha or "", entries)

    def commit(self, adds: Mapping[str, Path | bytes], drop: Sequence[str], message: str) -> str:
        """Makes one commit after `head`, whole or not at all; returns its name."""
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
            for name, content in adds.items()
        ]
        operations += [CommitOperationDelete(name) for name in drop]
        with in_words(self.repository.url):
            info = client().create_commit(
                self.repository.name,
                operations,
                commit_message=message,
                repo_type=self.repository.kind,
                revision=self.repository.revision or None,
                parent_commit=self.head,
            )
        return info.oid


def send(publication: Publication, repository: Repository, *, private: bool = False) -> Pushed:
    """Sends what is not there yet; says what lies there then. Raises `SourceUnavailable`, and
    `OutputError` for a repository that holds something else."""
    if repository.is_pinned:
        raise ConfigError(
            f"{repository.revision} is a commit, and these do not change",
            remedy="give --revision a branch, or leave it out",
        )
    try:
        _make(repository, private=private)
        return _send(publication, HubBranch.listed(repository))
    except Trouble as trouble:
        raise SourceUnavailable(
            f"the push to {repository.url} was cut off ({trouble})",
            remedy=f"see that the Hub and the network are in order, {AGAIN}",
        ) from trouble


def _make(repository: Repository, *, private: bool) -> None:
    """Makes the repository, and its branch, where they are not there."""
    api, name, kind = client(), repository.name, repository.kind
    with in_words(repository.url):
        api.create_repo(name, repo_type=kind, private=private or None, exist_ok=True)
        public = not api.repo_info(name, repo_type=kind).private
        if private and public:
            raise ConfigError(
                f"{repository.url} is there and public, not private",
                remedy="make it private in its settings on the Hub, or choose another name",
            )
        if repository.revision:
            api.create_branch(name, repo_type=kind, branch=repository.revision, exist_ok=True)


def _send(publication: Publication, branch: HubBranch) -> Pushed:
    _require_ours(publication, branch)
    repository, what = branch.repository, publication.what
    readme = OutgoingBytes(FILE, publication.card.text(repository.url).encode())
    last = [*publication.last, readme]
    outgoing = [*publication.parts, *last]
    new = [file for file in publication.parts if not _is_there(file, branch)]
    present = len(outgoing) - len(new) - sum(not _is_there(file, branch) for file in last)
    head, sent, commits = branch.head, 0, 0
    shown = progress(total=len(new), unit="files", label="push") if new else nullcontext()
    with shown as bar:
        for batch in _batches(new):
            with tempfile.TemporaryDirectory(prefix="depthtok-push-") as folder:
                adds = {file.name: file.content(Path(folder)) for file in batch}
                sent += sum(map(_size, adds.values()))
                now = HubBranch(repository, head, branch.entries)
                head = now.commit(adds, (), f"Parts of {what} {publication.identity[:16]}")
            commits += 1
            if bar is not None:
                bar.advance(len(batch))
    adds = {file.name: file.content(Path()) for file in last if not _is_there(file, branch)}
    names = {file.name for file in outgoing}
    drop = [name for name in branch.entries if name not in names and not _ALWAYS.fullmatch(name)]
    if adds or drop:
        sent += sum(map(_size, adds.values()))
        now = HubBranch(repository, head, branch.entries)
        title = f"{what.capitalize()} {publication.identity[:16]}"
        head, commits = now.commit(adds, drop, title), commits + 1
    return Pushed(
        what,
        repository.at(head).url,
        _page(repository),
        publication.identity,
        len(outgoing),
        present,
        sent,
        commits,
        tuple(publication.warnings),
    )


def _require_ours(publication: Publication, branch: HubBranch) -> None:
    """Raises `OutputError` for a branch that holds files of something else."""
    ours = NAMES[publication.what]
    others = [n for n in branch.entries if not (ours.fullmatch(n) or _ALWAYS.fullmatch(n))]
    if others:
        raise OutputError(
            f"{branch.repository.url} holds something else than a {publication.what} (first: "
            f"{sorted(others)[0]})",
            remedy="push to another name: a new branch would begin with these files, too",
        )


def _is_there(file: Outgoing, branch: HubBranch) -> bool:
    entry = branch.entries.get(file.name)
    return entry is not None and file.is_there(entry)


def _batches(files: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    """The files in order, as many at a time as one commit takes."""
    batch: list[Outgoing] = []
    size = 0
    for file in files:
        if batch and (len(batch) == MOST_FILES or size + (file.size or 0) > MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size or 0
    if batch:
        yield batch


def _sha256(file: RepoFile) -> str:
    return "" if file.lfs is None else file.lfs.sha256


def _size(content: Path | bytes) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _page(repository: Repository) -> str:
    folder = "" if repository.kind == "model" else f"{repository.kind}s/"
    return f"{client().endpoint}/{folder}{repository.name}"
