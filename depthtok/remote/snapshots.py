"""Codebooks and policies of the Hub as directories of this machine: `hf://OWNER/NAME[@REVISION]`.

They lie in the cache of the Hub's client, one folder a commit, and are fetched once.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from depthtok.errors import CorruptPart, SourceUnavailable
from depthtok.installation import hub_cache
from depthtok.log import warn
from depthtok.remote.errors import Trouble, without_secrets
from depthtok.remote.limits import Limits
from depthtok.remote.objects import require_package
from depthtok.remote.repository import MODEL, Repository, recorded
from depthtok.remote.retrying import persistently

_BLOB = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")
_HEADER = "blob %d\0"  # what git puts before a file's bytes, to name it


def here(path: str | Path, kind: str = MODEL) -> Path:
    """The path itself; of an hf:// URL the folder where its files lie, fetched if they do not yet.
    `kind` is that of a URL that does not say. Raises `SourceUnavailable`, `CorruptPart`,
    `MissingPackage` and `ConfigError`."""
    repository = Repository.parse(path, kind)
    return Path(path) if repository is None else fetched(repository)


def pinned(path: str) -> str:
    """The same text; an hf:// URL with the commit that it means now. Raises as `here`."""
    return recorded(here(path)) if Repository.parse(path) else path


def fetched(repository: Repository) -> Path:
    """The folder with the files of a repository, complete and as the Hub describes them. Its name
    is the commit. Where the Hub is not reached: what the cache has, with a warning. Raises as
    `here`."""
    require_package("huggingface_hub", "hf", repository.url)
    from huggingface_hub import is_offline_mode

    from depthtok.remote.hub import client, in_words

    if repository.is_pinned and (folder := _cached(repository)):
        return folder
    cache = hub_cache(os.environ)
    if is_offline_mode():
        if folder := _cached(repository):
            return folder
        raise _unreached(repository, cache, Trouble("HF_HUB_OFFLINE is set"))
    blobs = cache / f"{repository.kind}s--{repository.name.replace('/', '--')}" / "blobs"
    before = set(blobs.iterdir()) if blobs.is_dir() else set()
    name, kind, revision = repository.name, repository.kind, repository.revision or None

    def attempt() -> Path:
        with in_words(repository.url):
            client().repo_info(name, repo_type=kind, revision=revision)  # refused: not of the cache
            folder = client().snapshot_download(
                name, repo_type=kind, revision=revision, cache_dir=cache
            )
        return Path(folder)

    try:
        folder = persistently(attempt, repository.url, Limits.from_environment())
    except SourceUnavailable as error:
        if isinstance(error.__cause__, Trouble) and (folder := _cached(repository)):
            warn(f"the Hub is not reached: {repository.url} is taken as of commit {folder.name}")
            return folder
        if isinstance(error.__cause__, Trouble):
            raise _unreached(repository, cache, error.__cause__) from error
        raise
    for blob in sorted(set(blobs.iterdir()) - before) if blobs.is_dir() else ():
        _require_sound(blob, repository)
    return folder


def _cached(repository: Repository) -> Path | None:
    """The folder in the cache, if it is there and complete."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = huggingface_hub.snapshot_download(
            repository.name,
            repo_type=repository.kind,
            revision=repository.revision or None,
            cache_dir=hub_cache(os.environ),
            local_files_only=True,
        )
    except (LocalEntryNotFoundError, OSError):
        return None
    return Path(folder)


def _unreached(repository: Repository, cache: Path, trouble: Trouble) -> SourceUnavailable:
    return SourceUnavailable(
        f"{repository.url} is not in the Hub's cache ({cache}), and the Hub is not reached "
        f"({without_secrets(str(trouble))})",
        remedy="see that this machine is online (HF_HUB_OFFLINE unset) and run the same command "
        f"again; or fetch it on one that is, by `hf download {repository.name}`, copy that folder "
        "here, and give its path",
    )


def _require_sound(blob: Path, repository: Repository) -> None:
    """Raises `CorruptPart` where a file that was fetched has other bytes than its name says, which
    is the digest that the Hub gives; the file is deleted."""
    if not _BLOB.fullmatch(blob.name):
        return
    digest = hashlib.sha256() if len(blob.name) == 64 else hashlib.sha1()
    if len(blob.name) == 40:
        digest.update((_HEADER % blob.stat().st_size).encode())
    with blob.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != blob.name:
        blob.unlink()
        raise CorruptPart(
            f"a file of {repository.url} came with other bytes than the Hub says it has "
            f"({blob.name[:12]})",
            remedy="it was deleted: run the same command again",
        )
