"""Objects by way of obstore: S3, Google Cloud Storage, Azure, https."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import obstore
from obstore import exceptions
from obstore.store import HTTPStore, LocalStore, from_url

from depthtok.remote.errors import Trouble, changed, missing, refused, without_secrets
from depthtok.remote.limits import Limits
from depthtok.remote.objects import Described, Objects

LONGEST = timedelta(hours=1)  # of one request that keeps giving bytes
_NO_WORDS_OF = (  # what the package says of settings: nothing that another attempt would mend
    "builder error",
    "Missing",
    "Unable to parse",
    "URL scheme is not allowed",
)


@dataclass(frozen=True)
class ObstoreObjects:
    """The objects of one store of obstore."""

    store: obstore.store.ObjectStore
    url: str  # of the bucket, for messages
    lists: bool = True  # whether its folders can be listed
    revision: str = ""

    @classmethod
    def open(cls, scheme: str, bucket: str, limits: Limits) -> ObstoreObjects:
        """The objects of a bucket or host. Credentials and endpoint come from the environment
        (AWS_ENDPOINT_URL, ...), or are looked for as the clouds do it."""
        url = f"{scheme}://{bucket}"
        connect, silence = (timedelta(seconds=s) for s in (limits.connect_s, limits.silence_s))
        with _in_words(url, url):
            if scheme == "file":
                return cls(LocalStore(), url)
            if scheme in ("http", "https"):
                web = HTTPStore(
                    url,
                    client_options={
                        "connect_timeout": connect,
                        "read_timeout": silence,
                        "timeout": LONGEST,
                        "allow_http": True,
                    },
                    retry_config={"max_retries": 0},  # `persistently` does it
                )
                return cls(web, url, lists=False)
            bucket_store = from_url(
                url,
                client_options={
                    "connect_timeout": connect,
                    "read_timeout": silence,
                    "timeout": LONGEST,
                    "allow_http": True,
                },
                retry_config={"max_retries": 0},  # bodies that end early want it done here
            )
            return cls(bucket_store, url)

    def describe(self, name: str) -> Described:
        object_url = f"{self.url}/{name}"
        with _in_words(object_url, self.url):
            return _described(obstore.head(self.store, name))

    def read(self, name: str, start: int, stop: int, etag: str) -> memoryview:
        object_url = f"{self.url}/{name}"
        if start == stop:
            return memoryview(b"")
        options: obstore.GetOptions = {"range": (start, stop)}
        if etag and not etag.startswith("W/"):
            options["if_match"] = etag
        with _in_words(object_url, self.url):
            answer = obstore.get(self.store, name, options=options)
            if etag and (answer.meta["e_tag"] or "") != etag:
                raise changed(object_url)
            data = memoryview(answer.bytes())  # not copied
            if answer.range != (start, stop) or data.nbytes != stop - start:
                raise Trouble(f"{data.nbytes:,} bytes came of the {stop - start:,} asked for")
            return data

    def folder(self, name: str) -> tuple[Sequence[str], Sequence[Described]]:
        object_url = f"{self.url}/{name}"
        if not self.lists:
            raise refused(object_url, "a web server does not list its folders")
        with _in_words(object_url, self.url):
            listing = obstore.list_with_delimiter(self.store, name or None)
            objects = [_described(meta) for meta in listing["objects"]]
            return sorted(listing["common_prefixes"]), sorted(objects, key=lambda o: o.name)

    def write(self, name: str, data: bytes | Path) -> None:
        with _in_words(f"{self.url}/{name}", self.url):
            obstore.put(self.store, name, data)


_: type[Objects] = ObstoreObjects


def _described(meta: obstore.ObjectMeta) -> Described:
    modified = int(meta["last_modified"].timestamp() * 1e9)
    return Described(meta["path"], meta["size"], meta["e_tag"] or "", modified)


@contextmanager
def _in_words(where: str, url: str) -> Iterator[None]:
    """Turns the errors of obstore into ours."""
    try:
        yield
    except (FileNotFoundError, exceptions.NotFoundError) as error:
        raise missing(where) from error
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
        raise refused(where, _reason(error)) from error
    except exceptions.PreconditionError as error:
        raise changed(where) from error
    except exceptions.BaseError as error:
        reason = _reason(error)
        if reason.startswith("status 404"):
            raise missing(where) from error
        final = re.match(r"status 4(?!08|29)", reason)
        if final or any(words in reason for words in _NO_WORDS_OF):
            raise refused(where if final else url, reason) from error
        raise Trouble(reason) from error


def _reason(error: Exception) -> str:
    """What an error of obstore says: the status, or what went wrong on the way."""
    first = str(error).partition("\n")[0]
    if status := re.search(r"status(?: code)?:? +(\d{3}[\w ]*)", first):
        return f"status {status[1].strip()}"
    return without_secrets(first.partition(" - ")[2] or first)
