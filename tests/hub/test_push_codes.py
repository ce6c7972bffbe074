"""push: code stores, in several commits, and opened by their names."""

import shutil

import numpy as np
import pytest
import yaml

import depthtok
from depthtok.copies.contents import Contents
from depthtok.copies.packed import object_name
from depthtok.errors import (
    ConfigError,
    CorruptPart,
    MissingParts,
    OutputError,
    SourceUnavailable,
    StoreError,
)
from depthtok.remote.location import located
from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import DepthStore
from depthtok.stores.spec import COPY
from pipelines.provenance import MADE_FROM, estimator_of
from pipelines.push import sending
from tests.commands.trainings import DEMO
from tests.hub.hub_server import Fault, File, Repo

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # the client's


@pytest.fixture
def one_by_one(monkeypatch):
    """A commit for each part."""
    monkeypatch.setattr(sending, "MOST_FILES", 1)


def codes_of(store: CodeStore) -> dict[str, np.ndarray]:
    tables = {part.name: store.table(part, "codes/image") for part in store.parts()}
    return {name: np.array(table) for name, table in tables.items()}


def same(one: CodeStore, other: CodeStore) -> bool:
    ours, theirs = codes_of(one), codes_of(other)
    return ours.keys() == theirs.keys() and all((ours[n] == theirs[n]).all() for n in ours)


def test_there_and_back(hub, made, one_by_one):
    store = CodeStore(made / "codes")
    pushed = depthtok.push(made / "codes", "lab/codes")
    parts = [object_name(part) for part in store.parts()]
    files = hub.files("datasets/lab/codes")
    assert set(files) == {"README.md", COPY, *parts}
    assert pushed.commits == len(parts) + 1
    repo = hub.repos["datasets/lab/codes"]
    assert repo.titles[-1] == f"Codes {store.fingerprint[:16]}"
    before_last = list(repo.commits.values())[-2]
    assert COPY not in before_last  # the root came last
    assert set(parts) < set(before_last)
    for url in (pushed.url, "hf://datasets/lab/codes", "hf://lab/codes"):
        loaded = CodeStore(url)
        assert loaded.fingerprint == store.fingerprint
        assert same(loaded, store)
        assert loaded.origin == pushed.url


def test_its_card(hub, made):
    depthtok.push(made / "codes", "lab/codes")
    text = hub.files("datasets/lab/codes")["README.md"].decode()
    matter = yaml.safe_load(text.split("---\n")[1])
    assert (matter["license"], matter["viewer"]) == ("unknown", False)
    row = next(line for line in text.splitlines() if line.startswith("| libero_sim_depth"))
    assert "| dataset | the data set's own |" in row
    assert "| episodes | 6 |" in text
    assert "| steps | 24 |" in text
    assert "| quality gate | passed |" in text
    assert "--codes hf://datasets/lab/codes --set codebook=CODEBOOK" in text
    assert "**Demo weights" in text  # of the codebook


def test_no_path_of_this_machine_goes_along(hub, made, tmp_path):
    shutil.copytree(made / "codes", tmp_path / "codes")
    assert depthtok.report(tmp_path / "codes").page.parent == tmp_path / "codes"
    (tmp_path / "codes" / "notes.txt").write_text("mine")
    depthtok.push(tmp_path / "codes", "lab/codes")
    assert set(Contents.read(located("hf://datasets/lab/codes")).files) == {MADE_FROM}
    for name, data in hub.files("datasets/lab/codes").items():
        assert str(made).encode() not in data, name
        assert str(tmp_path).encode() not in data, name
        assert str(DEMO.parent).encode() not in data, name
    with pytest.raises(StoreError, match="not say where its codebook lies") as error:
        CodeStore("hf://lab/codes").open_codebook()
    assert "--codebook" in error.value.remedy
    assert CodeStore("hf://lab/codes").open_codebook(DEMO).demo


def test_the_codebook_on_the_hub_stays_named(hub, made, tmp_path):
    book = depthtok.push(DEMO, "lab/book").url
    depthtok.tokenize(made / "depth", codebook=book, out=tmp_path / "codes")
    depthtok.push(tmp_path / "codes", "lab/codes")
    assert CodeStore("hf://lab/codes").open_codebook().demo
    text = hub.files("datasets/lab/codes")["README.md"].decode()
    assert "--set codebook" not in text.split("## Use")[1].split("## Made")[0]


def test_a_push_that_is_cut_is_no_store_and_goes_on(hub, made, one_by_one):
    hub.faults = [Fault("POST", "/commit/", 503, after=2)]
    with pytest.raises(SourceUnavailable, match="was cut off"):
        depthtok.push(made / "codes", "lab/codes")
    assert len(hub.files("datasets/lab/codes")) == 2  # parts alone
    with pytest.raises(StoreError, match="there is no store"):
        CodeStore("hf://lab/codes@main")
    hub.faults = []
    hub.asked.clear()
    done = depthtok.push(made / "codes", "lab/codes")
    parts = len(CodeStore(made / "codes").part_names)
    assert (done.kept, done.files, done.commits) == (2, parts + 2, parts - 2 + 1)
    assert same(CodeStore(done.url), CodeStore(made / "codes"))
    again = depthtok.push(made / "codes", "lab/codes")
    assert (again.kept, again.commits) == (parts + 2, 0)


def test_codes_made_anew_take_the_place_of_those_before(hub, made, tmp_path):
    first = depthtok.push(made / "codes", "lab/codes")
    depthtok.tokenize(made / "depth", codebook=DEMO, out=tmp_path / "other", sticky=0.5)
    second = depthtok.push(tmp_path / "other", "lab/codes")
    parts = [object_name(part) for part in CodeStore(tmp_path / "other").parts()]
    assert set(hub.files("datasets/lab/codes")) == {"README.md", COPY, *parts}
    assert CodeStore(second.url).fingerprint != CodeStore(first.url).fingerprint


@pytest.mark.parametrize("revision", ["", "codes"])
def test_somebody_s_json_is_left_alone(hub, made, revision):
    theirs = {"train.json": File(b"[1]", False), "README.md": File(b"theirs", False)}
    hub.repos["datasets/lab/data"] = Repo(False)
    hub.repos["datasets/lab/data"].add("main", theirs, "theirs")
    with pytest.raises(OutputError, match=r"something else than a codes.*train\.json") as error:
        depthtok.push(made / "codes", "lab/data", revision=revision)
    assert "push to another name" in error.value.remedy
    assert hub.files("datasets/lab/data") == {n: file.data for n, file in theirs.items()}


def test_what_is_incomplete_or_damaged_is_not_sent(hub, made, tmp_path):
    shutil.copytree(made / "codes", tmp_path / "lacking")
    parts = sorted((tmp_path / "lacking" / "parts").glob("train*"))
    shutil.rmtree(parts[0])
    with pytest.raises(MissingParts):
        depthtok.push(tmp_path / "lacking", "lab/codes")
    shutil.copytree(made / "codes", tmp_path / "damaged")
    chunk = next((tmp_path / "damaged" / "parts").glob("train*/codes/image/c/*/*/*"))
    chunk.write_bytes(b"?" + chunk.read_bytes()[1:])
    with pytest.raises(CorruptPart) as error:
        depthtok.push(tmp_path / "damaged", "lab/codes")
    assert "depthtok verify" in error.value.remedy
    assert hub.asked == []


def test_a_damaged_part_on_the_hub_is_refused(hub, made):
    url = depthtok.push(made / "codes", "lab/codes").url
    repo = hub.repos["datasets/lab/codes"]
    name = next(n for n in repo.commits[repo.branches["main"]] if n.endswith(".zip"))
    file = repo.commits[repo.branches["main"]][name]
    middle = len(file.data) // 2
    file.data = file.data[:middle] + bytes([file.data[middle] ^ 1]) + file.data[middle + 1 :]
    with pytest.raises(CorruptPart, match=r"\.zip"):
        CodeStore(url)


def test_other_stores_are_not_pushed(hub, made):
    with pytest.raises(ConfigError, match="a store of depth: codebooks, code stores and") as error:
        depthtok.push(made / "depth", "lab/depth")
    assert "depthtok copy" in error.value.remedy


def test_what_estimated_the_depth_goes_along(hub, made, tmp_path):
    """Whoever loads codes, and pushes what is made of them, is told the licence all the same."""
    depthtok.push(made / "codes", "lab/codes")
    estimator = estimator_of(CodeStore("hf://lab/codes"))
    assert estimator == DepthStore(made / "depth").estimator
    assert depthtok.verify(CodeStore("hf://lab/codes").path).sound


def test_decoding_records_the_commit(hub, made, tmp_path):
    url = depthtok.push(made / "codes", "lab/codes").url
    depthtok.decode("hf://lab/codes", codebook=DEMO, out=tmp_path / "decoded")
    assert DepthStore(tmp_path / "decoded").spec.place["codes_from"] == url
