"""The card of a repository: licences, and text of data sets that cannot leave its cell."""

import pytest
import yaml

from depthtok.errors import ConfigError
from pipelines.push import licences
from pipelines.push.card import Card, MadeFrom, notices

NC = {"name": "vitl", "licence": "CC-BY-NC-4.0", "weights": "ab" * 32}


@pytest.mark.parametrize(
    ("stated", "sources", "front"),
    [
        ("", [], {"license": "unknown"}),
        ("", ["Apache-2.0", "unknown"], {"license": "unknown"}),
        ("CC BY 4.0", ["Apache-2.0"], {"license": "cc-by-4.0"}),
        ("our own", [], {"license": "other", "license_name": "our own"}),
        ("", ["Apache-2.0", "CC-BY-NC-4.0"], {"license": "cc-by-nc-4.0"}),
        ("cc-by-nc-sa-4.0", ["CC-BY-NC-4.0"], {"license": "cc-by-nc-sa-4.0"}),
        (
            "",
            ["unproven; treated as CC-BY-NC-4.0"],
            {"license": "other", "license_name": "unproven; treated as CC-BY-NC-4.0"},
        ),
        (
            "",
            ["CC-BY-NC-4.0", "for research only"],
            {"license": "other", "license_name": "non-commercial"},
        ),
        (
            "",
            ["non-commercial, as its authors say", "for research only"],
            {"license": "other", "license_name": "non-commercial"},
        ),
    ],
)
def test_the_licence_is_as_stated_but_never_freer_than_the_sources(stated, sources, front):
    assert licences.chosen(stated, sources) == front


@pytest.mark.parametrize("stated", ["mit", "CC BY 4.0", "ours"])
def test_a_freer_licence_is_refused(stated):
    with pytest.raises(ConfigError, match="not for commercial use"):
        licences.chosen(stated, ["Apache-2.0", "CC-BY-NC-4.0"])


def test_data_sets_have_the_licence_of_their_schema():
    assert licences.of_data_set("bridge_orig").startswith("CC BY 4.0 (says depthtok's schema")
    assert licences.of_data_set("of nobody") == "unknown"


def test_names_of_data_sets_stay_in_their_cells():
    name = "a|b\n# heading\n<script>![x](http://x/y)`rm`" + "\x1b[31m"
    source = MadeFrom(name, "fe" * 32, None, {**NC, "name": "/home/me/secret/net.pth"})
    card = Card(name, "A thing.", {"license": "mit"}, (), "model", "use {url}", [source])
    text = card.text("hf://lab/thing")
    assert yaml.safe_load(text.split("---\n")[1])["license"] == "mit"
    assert [line for line in text.splitlines() if line.startswith("# ")] == [
        line for line in text.splitlines() if line.startswith("# a\\|b")
    ]
    assert "<script>" not in text
    assert "![x]" not in text
    assert "\x1b" not in text
    assert "/home/me" not in text
    assert "net.pth" in text


def test_notices():
    lines = notices([MadeFrom("set", "", 1.0, NC)], demo=True, failures=["codes.used is 3"])
    assert [line.split(":")[0] for line in lines] == [
        "Demo weights",
        "Not for commercial use",
        "Below depthtok's quality gate",
    ]
    tiny = MadeFrom("set", "", 1.0, {"name": "tiny", "licence": "Apache-2.0"})
    assert notices([tiny], demo=False, failures=[])[0].startswith("Demo depth: that of set")
