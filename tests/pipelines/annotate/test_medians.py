"""annotate says how far the cameras see, warns where none does, and leads on from a wrong unit."""

import json
import re
import shlex
from importlib.resources import files

import numpy as np
import pytest

from depthtok.cli.main import main
from depthtok.config import RunOptions
from depthtok.stores.codebook import Codebook
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.testing import make_rlds
from pipelines.annotate import medians
from pipelines.annotate.fused import FusedStage
from pipelines.annotate.medians import in_words, median_depths, unlikely
from pipelines.config import TokenizeConfig
from pipelines.inspect.store_pages import store_report
from pipelines.run import run

EDGE = 32
SCHEMA = (files("depthtok.sources") / "schemas" / "libero_depth.toml").read_text("utf-8")
DATASET = ("--estimator", "dataset", "--size", EDGE)


def known_depth(number, episode):
    """Episode `number`: the image's depth is 1000 + 100 x number, the wrist's 200 + 2 x number; the
    upper half of each frame is no measurement."""
    for name, value in (("depth", 1000 + 100 * number), ("wrist_depth", 200 + 2 * number)):
        steps = len(episode["steps/is_first"])
        frames = np.full((steps, EDGE, EDGE, 1), value, np.uint16)
        frames[:, : EDGE // 2] = 0
        episode[f"steps/observation/{name}"] = frames


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """Four episodes in two shards: medians of 1000 to 1300, and of 200 to 206, stored units."""
    path = tmp_path_factory.mktemp("rlds") / "1.0.0"
    return make_rlds(path, episodes=4, steps=2, shards=2, size=EDGE, edit=known_depth)


@pytest.fixture
def says(tmp_path, monkeypatch, capsys):
    """Runs a command in `tmp_path` as it is typed: its exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def say(*words):
        monkeypatch.setattr("sys.argv", ["depthtok", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, *capsys.readouterr()

    return say


@pytest.fixture
def converted(known, says, tmp_path):
    """Converts by a schema that gives this unit; returns the schema and the store."""

    def convert(unit):
        schema = tmp_path / "mine.toml"
        schema.write_text(SCHEMA.replace('depth_unit = "mm"', f'depth_unit = "{unit}"'), "utf-8")
        assert says("convert", known, "--schema", schema, "--out", "episodes")[0] == 0
        return schema

    return convert


@pytest.mark.parametrize(
    ("unit", "line", "is_warned"),
    [
        ("mm", "image 1.15 m, wrist_image 0.203 m", False),
        ("cm", "image 11.5 m, wrist_image 2.03 m", False),
        ("m/40", "image 28.8 m, wrist_image 5.08 m", True),
        ("m/1000000", "image 0.00115 m, wrist_image 0.000203 m", True),
    ],
)
def test_the_median_of_valid_depth_is_said_and_doubted(converted, says, unit, line, is_warned):
    converted(unit)
    for _ in ("made", "kept"):
        code, out, err = says("annotate", "episodes", *DATASET, "--out", "depth")
        assert code == 0
        assert re.search(r"^median depth: (.*)$", out, re.M)[1] == line
        assert ("not within the 0.05 to 20 m of a robot's camera" in err) is is_warned
        assert ("`depth_unit` in the schema" in err) is is_warned
        assert ("next:" in out) is not is_warned, "the next command is in the warning"
    page = store_report(DepthStore("depth")).to_json()
    assert page["numbers"]["image: median depth, m"] == pytest.approx(
        float(line.split()[1]), rel=1e-2
    )
    assert is_warned is any(s["title"] == "What is suspicious" for s in page["sections"])


def test_only_the_camera_that_is_out_of_reach_is_named(converted, says):
    converted("m/40")
    err = says("annotate", "episodes", *DATASET, "--out", "depth")[2]
    assert "the median depth (image 28.8 m) is not within" in err


def test_they_are_in_the_json_and_the_remedy_works(converted, says):
    schema = converted("m/1000000")
    words = ("annotate", "episodes", *DATASET, "--json")
    _, out, err = says(*words, "--out", "depth")
    printed = json.loads(out)
    assert printed["median_depth_m"] == pytest.approx(
        {"image": 0.00115, "wrist_image": 0.000203},
        rel=1e-3,  # their quantiles are of float16
    )
    assert len(printed["unlikely_depth"]) == 1
    assert printed["unlikely_depth"][0] in err
    command = shlex.split(re.search(r"`depthtok (convert .*?)`", err)[1])
    schema.write_text(SCHEMA, "utf-8")
    schema.rename("my.toml")
    assert says(*command)[0] == 0
    mended = json.loads(says(*words, "--out", "again")[1])
    assert mended["median_depth_m"] == pytest.approx({"image": 1.15, "wrist_image": 0.203})
    assert mended["unlikely_depth"] == []


def test_where_all_failed_by_the_unit_the_hint_leads_on(converted, says, known):
    schema = converted("m")
    words = ("annotate", "episodes", *DATASET)
    code, out, _ = says(*words, "--out", "depth")
    assert code == 1
    assert "median depth" not in out, "there is none"
    hint = next(line for line in out.splitlines() if "--retry-failed" in line)
    assert "annotate into a new --out (or delete depth first)" in hint
    assert "`convert` with --overwrite" in hint
    schema.write_text(SCHEMA, "utf-8")
    assert says("convert", known, "--schema", schema, "--out", "episodes", "--overwrite")[0] == 0
    code, _, err = says(*words, "--out", "depth", "--retry-failed")
    assert code == 2, "as the hint says, it is refused"
    assert "was made differently" in err
    code, out, _ = says(*words, "--out", "new")
    assert code == 0
    assert "median depth: image 1.15 m" in out


def test_depth_without_a_unit_has_none_and_codes_keep_what_theirs_had(whole, tmp_path):
    tiny = whole.stage("annotate", out=tmp_path / "tiny", estimator="tiny", input_size=28)
    assert run(tiny, RunOptions(limit=1)).median_depth_m == {}
    own = whole.stage("annotate", out=tmp_path / "never")
    quality: dict[str, object] = {"failures": []}
    book = Codebook.load(whole.book)
    codes = FusedStage(own, book, tmp_path / "codes", TokenizeConfig(), quality)
    noted = run(codes, RunOptions()).median_depth_m
    assert noted == pytest.approx(run(own, RunOptions()).median_depth_m)
    assert run(codes, RunOptions()).median_depth_m == noted, "they are kept with the parts"
    of_no_unit = FusedStage(tiny, book, tmp_path / "tiny codes", TokenizeConfig(), quality)
    assert run(of_no_unit, RunOptions(limit=1)).median_depth_m == {}


def test_an_estimate_out_of_reach_is_not_put_on_the_schema(whole):
    episodes = EpisodeStore(whole.root / "convert")
    (text,) = unlikely({"near": 0.05, "far": 20.1}, episodes, of_data_set=False)
    assert "the median depth (far 20.1 m) is not within the 0.05 to 20 m" in text
    assert "depth_unit" not in text
    assert unlikely({"near": 0.05, "far": 20.0}, episodes, of_data_set=False) == []


def test_of_many_parts_some_are_looked_at(converted, says, tmp_path, monkeypatch):
    converted("mm")
    says("annotate", "episodes", *DATASET, "--out", "depth")
    store = DepthStore(tmp_path / "depth")
    parts = list(store.parts())
    assert len(parts) == 2
    assert median_depths(store, parts)["image"] == pytest.approx(1.15)
    monkeypatch.setattr(medians, "MOST_PARTS", 1)
    assert median_depths(store, parts)["image"] == pytest.approx(1.05), "episodes 0 and 1"
    assert median_depths(store, []) == {}


def test_words_are_readable_at_any_distance():
    words = "a 0.000951 m, b 952 m, c 64,321 m"
    assert in_words({"a": 0.00095123, "b": 952.4, "c": 64321.0}) == words
