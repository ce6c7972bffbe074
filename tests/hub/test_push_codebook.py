"""push: codebooks to the stand-in Hub by the real client, and back by their names."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

import depthtok
from depthtok.api.depth_stores import depth_sources
from depthtok.errors import ConfigError, CorruptPart, OutputError, SourceUnavailable
from depthtok.stores import codebook
from depthtok.stores.codebook import Codebook
from depthtok.stores.depth import DepthStore
from tests.commands.trainings import DEMO, call
from tests.hub.hub_server import TOKEN, Fault, File
from vqvae.data.sides import split

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # the client's
BEFORE = Path(__file__).parents[1] / "data" / "before"
BOOK = {"README.md", "codebook.json", "codebook.safetensors"}


def front_matter(readme: bytes) -> dict:
    return yaml.safe_load(readme.decode().split("---\n")[1])


@pytest.fixture
def borrowed(tmp_path):
    """A codebook that learnt from depth of an estimator that is not for commercial use."""
    path = tmp_path / "borrowed"
    shutil.copytree(DEMO, path)
    meta = dict(Codebook.load(path).meta)
    estimator = {"name": "vitl", "licence": "CC-BY-NC-4.0", "weights": "feed" * 16}
    meta["data"] = {**meta["data"], "sources": [{**meta["data"]["sources"][0]}]}
    meta["data"]["sources"][0]["estimator"] = estimator
    codebook.write_meta(path, {**meta, "demo": False})
    return path


def test_there_and_back(hub):
    pushed = depthtok.push(DEMO, "lab/book")
    assert set(hub.files("models/lab/book")) == BOOK
    assert hub.files("models/lab/book")["codebook.json"] == (DEMO / "codebook.json").read_bytes()
    assert Codebook.load("hf://lab/book").fingerprint == Codebook.load(DEMO).fingerprint
    commit = hub.repos["models/lab/book"].branches["main"]
    assert (pushed.url, pushed.commits, pushed.kept) == (f"hf://lab/book@{commit}", 1, 0)
    again = depthtok.push(DEMO, "lab/book")
    assert (again.kept, again.files, again.commits, again.bytes) == (3, 3, 0, 0)
    assert again.url == pushed.url


def test_the_card_says_what_is_recorded(hub):
    depthtok.push(DEMO, "lab/book", licence="cc-by-4.0")
    card = hub.files("models/lab/book")["README.md"]
    matter = front_matter(card)
    assert matter["license"] == "cc-by-4.0"
    assert matter["library_name"] == "depthtok"
    text = card.decode()
    assert "**Demo weights: they show the pipeline." in text
    assert "| metres: abs_rel | 0.03279 |" in text
    assert "| seed | 0 |" in text
    row = next(line for line in text.splitlines() if line.startswith("| libero_sim_depth"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[3:6] == ["unknown"] * 3  # nothing recorded what estimated the depth
    assert cells[6] == "8adf1d4df67a1ef8"
    assert "whether its licence binds this is unknown" in text


def test_without_a_licence_it_is_unknown(hub):
    depthtok.push(DEMO, "lab/book")
    assert front_matter(hub.files("models/lab/book")["README.md"])["license"] == "unknown"


def test_weights_that_are_not_for_commercial_use_bind_what_is_made_with_them(hub, borrowed):
    pushed = depthtok.push(borrowed, "lab/book")
    card = hub.files("models/lab/book")["README.md"]
    assert front_matter(card)["license"] == "cc-by-nc-4.0"
    assert "> **Not for commercial use: depth of libero_sim_depth was estimated with vitl" in (
        card.decode()
    )
    assert any("not for commercial use" in line.lower() for line in pushed.warnings)
    with pytest.raises(ConfigError, match=r"licensed CC-BY-NC-4\.0") as refusal:
        depthtok.push(borrowed, "lab/other", licence="apache-2.0")
    assert "cc-by-nc-4.0" in refusal.value.remedy
    assert "models/lab/other" not in hub.repos


def test_stores_that_lie_elsewhere_now_say_what_estimated_the_depth(hub):
    plan = depthtok.push(BEFORE / "codebook", "lab/b", made_from=[BEFORE / "depth"], plan=True)
    row = next(line for line in plan.card.splitlines() if line.startswith("| before_set"))
    assert "| dataset | the data set's own |" in row
    plan = depthtok.push(BEFORE / "codebook", "lab/b", plan=True)
    row = next(line for line in plan.card.splitlines() if line.startswith("| before_set"))
    assert "| unknown | unknown | unknown |" in row
    assert "Below depthtok's quality gate" in plan.card
    assert hub.asked == []  # a plan sends nothing


def test_a_damaged_codebook_is_not_sent(hub, tmp_path):
    shutil.copytree(DEMO, tmp_path / "book")
    weights = tmp_path / "book" / "codebook.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    with pytest.raises(CorruptPart):
        depthtok.push(tmp_path / "book", "lab/book")
    assert hub.asked == []


@pytest.mark.parametrize("where", [r"^/lfs/", "/preupload/", "/commit/"])
def test_a_push_that_is_cut_leaves_nothing_and_goes_on(hub, where):
    method = "PUT" if "lfs" in where else "POST"
    hub.faults = [Fault(method, where, 503)]
    with pytest.raises(SourceUnavailable, match="was cut off") as cut:
        depthtok.push(DEMO, "lab/book")
    assert "the same command again" in cut.value.remedy
    assert hub.files("models/lab/book") == {}
    hub.faults, sent = [], len(hub.large)
    hub.asked.clear()
    depthtok.push(DEMO, "lab/book")
    assert set(hub.files("models/lab/book")) == BOOK
    puts = [path for method, path in hub.asked if method == "PUT"]
    assert len(puts) == len(hub.large) - sent  # what had arrived is not sent again
    if "commit" in where:
        assert puts == []


def test_another_codebook_takes_its_place_in_one_commit(hub, borrowed):
    first = depthtok.push(DEMO, "lab/book")
    second = depthtok.push(borrowed, "lab/book")
    assert second.commits == 1
    assert not Codebook.load("hf://lab/book").demo
    assert Codebook.load(first.url).demo  # that of before is still there, under its commit


def test_a_repository_with_something_else_is_left_alone(hub):
    depthtok.push(DEMO, "lab/other")
    repo = hub.repos["models/lab/other"]
    repo.add("main", {"pytorch_model.bin": File(b"theirs", False)}, "theirs")
    with pytest.raises(OutputError, match=r"something else than a codebook.*pytorch_model\.bin"):
        depthtok.push(DEMO, "lab/other")
    assert hub.files("models/lab/other") == {"pytorch_model.bin": b"theirs"}


def test_somebody_else_s_commit_meanwhile_is_not_overwritten(hub):
    hub.faults = [Fault("POST", "/commit/", 412)]
    with pytest.raises(SourceUnavailable, match="changed by somebody else"):
        depthtok.push(DEMO, "lab/book")


def test_private_means_private(hub):
    depthtok.push(DEMO, "lab/secret", private=True)
    assert hub.repos["models/lab/secret"].private
    depthtok.push(DEMO, "lab/open")
    with pytest.raises(ConfigError, match="public, not private"):
        depthtok.push(DEMO, "lab/open", private=True)


def test_a_branch_of_its_own(hub):
    depthtok.push(DEMO, "lab/book", revision="try")
    repo = hub.repos["models/lab/book"]
    assert set(repo.commits[repo.branches["main"]]) == {".gitattributes"}
    assert set(hub.files("models/lab/book", "try")) == BOOK
    assert Codebook.load("hf://lab/book@try").demo


def test_without_a_token_it_says_how_to_log_in(hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(SourceUnavailable, match="401") as refusal:
        depthtok.push(DEMO, "lab/book")
    assert "hf auth login" in refusal.value.remedy
    assert hub.repos == {}


def test_no_token_is_shown(hub, capsys):
    hub.faults = [Fault("POST", "/commit/", 503)]
    with pytest.raises(SourceUnavailable) as cut:
        depthtok.push(DEMO, "lab/book")
    shown = capsys.readouterr()
    assert TOKEN not in f"{cut.value}{shown.out}{shown.err}"


def test_the_command_line(hub):
    text = call("push", DEMO, "lab/book")
    commit = hub.repos["models/lab/book"].branches["main"]
    assert f"hf://lab/book@{commit}: codebook, 3 of 3 files sent" in text
    assert f"next: depthtok tokenize DEPTH --codebook hf://lab/book@{commit}" in text
    told = json.loads(call("push", DEMO, "lab/book", "--json"))
    assert (told["kept"], told["url"]) == (3, f"hf://lab/book@{commit}")


@pytest.mark.parametrize("name", ["book", "lab/", "datasets/book", "a/b/c", "../lab/book"])
def test_names_that_are_none(hub, name):
    with pytest.raises(ConfigError, match="names no repository"):
        depthtok.push(DEMO, name)


def test_a_training_records_what_estimated_its_depth(made):
    sources = depth_sources([made / "depth"], None, None, partial=False)
    (row,) = split(sources, 0.4).to_json()["sources"]
    assert row["estimator"] == DepthStore(made / "depth").estimator
    assert row["estimator"]["name"] == "dataset"
