"""hf:// where a path is taken: what is fetched, what is recorded, and what goes wrong."""

import errno
import os
import shutil
import sys
from pathlib import Path

import pytest

import depthtok
from depthtok.errors import (
    ConfigError,
    CorruptPart,
    MissingPackage,
    OutputError,
    SourceUnavailable,
)
from depthtok.remote.repository import Repository, recorded
from depthtok.remote.snapshots import here
from depthtok.stores.codebook import Codebook
from depthtok.stores.codes import CodeStore
from tests.commands.trainings import DEMO
from tests.hub.hub_server import TOKEN, Fault, Hub

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # the client's
COMMIT = "0123456789" * 4


@pytest.fixture
def book(hub):
    """The URL of a codebook on the Hub, with its commit."""
    pushed = depthtok.push(DEMO, "lab/book")
    hub.asked.clear()
    return pushed.url


def test_urls():
    assert Repository.parse("hf://lab/book") == Repository("lab/book")
    assert Repository.parse("hf:/lab/book") == Repository("lab/book")  # as pathlib makes it
    assert Repository.parse(Path("hf://lab/book@v1")) == Repository("lab/book", "model", "v1")
    assert Repository.parse("hf://lab/set", "dataset") == Repository("lab/set", "dataset")
    pinned = Repository.parse(f"hf://datasets/lab/set@{COMMIT}")
    assert pinned == Repository("lab/set", "dataset", COMMIT)
    assert pinned.is_pinned
    assert Repository.parse("runs/book") is None
    assert Repository.parse("s3://lab/book") is None
    assert Repository("lab/set", "dataset", "v1").url == "hf://datasets/lab/set@v1"


@pytest.mark.parametrize(
    "url", ["hf://book", "hf://datasets/set", "hf://a/b/c", "hf://spaces/a/b", "hf://a/b?token=x"]
)
def test_urls_that_name_no_repository(url):
    with pytest.raises(ConfigError, match="names no repository"):
        here(url)


def test_what_is_recorded():
    cached = Path(f"/cache/hub/datasets--lab--my-set/snapshots/{COMMIT}/inner")
    assert recorded(cached) == f"hf://datasets/lab/my-set@{COMMIT}"
    assert recorded(Path("/data/books/one")) == "/data/books/one"


def test_local_paths_stay_as_they_are(hub, tmp_path):
    assert here(tmp_path) == tmp_path
    assert here("runs/book") == Path("runs/book")
    assert hub.asked == []


def test_a_commit_in_the_cache_asks_nobody(hub, book):
    first = Codebook.load(book)
    hub.asked.clear()
    assert Codebook.load(book).path == first.path
    assert hub.asked == []
    assert recorded(first.path) == book


def test_codes_record_the_commit_of_their_codebook(made, book, tmp_path):
    depthtok.tokenize(made / "depth", codebook="hf://lab/book", out=tmp_path / "codes")
    store = CodeStore(tmp_path / "codes")
    assert store.spec.place["codebook"] == book
    assert store.open_codebook().fingerprint == store.codebook  # fetched by what is recorded
    assert store.fingerprint == CodeStore(made / "codes").fingerprint


def test_offline_the_cache_is_used_and_said(hub, book, monkeypatch, capsys):
    Codebook.load("hf://lab/book")
    with Hub() as gone:
        pass
    monkeypatch.setenv("HF_ENDPOINT", gone.url)
    assert Codebook.load("hf://lab/book").demo
    assert f"is taken as of commit {book.rpartition('@')[2]}" in capsys.readouterr().err
    with pytest.raises(
        SourceUnavailable, match="hf://lab/other is not in the Hub's cache"
    ) as error:
        Codebook.load("hf://lab/other")
    assert "hf download lab/other" in error.value.remedy


def test_a_full_disk_is_not_a_hub_that_is_away(hub, book, monkeypatch):
    Codebook.load("hf://lab/book")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "blob")

    monkeypatch.setattr("huggingface_hub.HfApi.snapshot_download", full)
    with pytest.raises(OutputError, match="blob: No space left on device"):
        Codebook.load("hf://lab/book")  # and not the one that the cache has


def test_offline_mode(hub, book, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SourceUnavailable, match="HF_HUB_OFFLINE is set"):
        Codebook.load("hf://lab/book")


@pytest.mark.parametrize("file", ["safetensors", r"\.json"])
def test_other_bytes_than_promised_are_refused_and_fetched_again(hub, book, file):
    hub.faults = [Fault("GET", f"/resolve/.*{file}", times=1, spoil=lambda data: b"!" + data[1:])]
    with pytest.raises(CorruptPart, match="other bytes than the Hub says") as error:
        Codebook.load("hf://lab/book")
    assert "the same command again" in error.value.remedy
    assert Codebook.load("hf://lab/book").fingerprint == Codebook.load(DEMO).fingerprint


def test_a_body_that_is_cut_is_not_taken(hub, book):
    hub.faults = [Fault("GET", "/resolve/.*safetensors", spoil=lambda data: data[:1000])]
    with pytest.raises(SourceUnavailable):
        Codebook.load("hf://lab/book")
    hub.faults = []
    assert Codebook.load("hf://lab/book").demo


@pytest.mark.parametrize(
    ("status", "words", "remedy"),
    [
        (401, "does not let us at hf://lab/book .status 401", "hf auth login"),
        (403, "does not let us at hf://lab/book .status 403", "hf auth login"),
        (404, "hf://lab/book is not there", "correct the name"),
        (503, "the Hub is not reached .status 503", "the same command again"),
    ],
)
def test_what_the_hub_answers_is_said(hub, book, status, words, remedy):
    hub.faults = [Fault("GET", "/api/models/", status)]
    with pytest.raises(SourceUnavailable, match=words) as error:
        Codebook.load("hf://lab/book")
    assert remedy in error.value.remedy
    assert TOKEN not in str(error.value)


def test_trouble_that_passes_is_waited_for(hub, book):
    hub.faults = [Fault("GET", "/api/models/", 503, times=1)]
    assert Codebook.load("hf://lab/book").demo


def test_private_ones_need_the_token(hub, monkeypatch):
    depthtok.push(DEMO, "lab/secret", private=True)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(SourceUnavailable, match=r"not there, or not for whom|does not let us"):
        Codebook.load("hf://lab/secret")


@pytest.mark.parametrize("revision", ["v9", COMMIT])
def test_a_revision_that_is_not_there(hub, book, revision):
    with pytest.raises(SourceUnavailable, match=f"hf://lab/book@{revision} is not there"):
        Codebook.load(f"hf://lab/book@{revision}")


def test_a_half_in_the_cache_is_completed(hub, book):
    folder = Codebook.load("hf://lab/book").path
    (folder / "codebook.safetensors").unlink()
    assert Codebook.load(book).path == folder
    shutil.rmtree(folder)
    assert Codebook.load("hf://lab/book").path == folder


def test_it_needs_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingPackage) as error:
        here("hf://lab/book")
    assert "depthtok[hf]" in error.value.remedy


def test_inspect_verify_and_report_take_them(hub, made, tmp_path):
    depthtok.push(DEMO, "lab/book")
    depthtok.push(made / "codes", "lab/codes")
    book, codes = depthtok.inspect(["hf://lab/book", "hf://lab/codes"]).summaries
    assert book.facts["codes"] == "256 of 64 dimensions"
    assert codes.facts["codebook"] == CodeStore(made / "codes").codebook[:16]
    assert depthtok.verify("hf://lab/book").sound
    assert depthtok.verify("hf://datasets/lab/codes").sound
    assert depthtok.report("hf://lab/book", out=tmp_path / "page").page.is_file()
    with pytest.raises(ConfigError, match="out"):
        depthtok.report("hf://lab/book")
    with pytest.raises(SourceUnavailable, match="hf://lab/nothing is not there"):
        depthtok.inspect(["hf://lab/nothing"])
