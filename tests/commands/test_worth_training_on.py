"""What `train-vqvae` and `train-vla` say of what they were given and made: whether it is worth a
policy."""

import numpy as np
import pytest
from PIL import Image

from depthtok.api.train_vqvae import TrainedCodebook
from depthtok.cli import train_vqvae
from depthtok.errors import ConfigError
from depthtok.stores.codebook import Codebook
from depthtok.stores.codes import CodeStore
from pipelines.inspect.store_pages import store_report
from tests.commands.trainings import DEMO, call


@pytest.mark.parametrize(("used", "passes"), [(231, True), (52, False)])
def test_the_gate_s_verdict_is_told_in_any_case(used, passes, tmp_path, capsys):
    book = Codebook.load(DEMO)
    quality = {**book.quality, "codes": {**book.quality["codes"], "used": used}}
    trained = TrainedCodebook(DEMO, book.fingerprint, quality, tmp_path / "report.html")
    train_vqvae.tell(trained, [tmp_path / "depth"], False)
    first, verdict, *others = capsys.readouterr().out.splitlines()
    assert f"{used} of 256 codes used" in first
    assert others[-1].startswith(f"next: depthtok tokenize {tmp_path}/depth --codebook")
    if passes:
        assert verdict == "passes the quality gate"
        assert others[0].startswith("look: ")
    else:
        assert verdict == "below the quality gate: number of codes used: 52 (needed: at least 180)"
        assert others[0].startswith("longer (--steps)")


@pytest.mark.parametrize("more", [[], ["--plan"]])
def test_videos_have_no_actions_to_learn(more, tmp_path):
    (tmp_path / "films" / "a").mkdir(parents=True)
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "films" / "a" / "0.png")
    tokens = ("--estimator", "tiny", "--then-tokenize", DEMO, "--out", tmp_path / "codes")
    call("annotate", tmp_path / "films", *tokens)
    stores = ("--episodes", tmp_path / "codes.episodes", "--codes", tmp_path / "codes")
    said = "have no actions: they are made of videos or pictures"
    with pytest.raises(ConfigError, match=said) as refused:
        call("train-vla", *stores, "--out", tmp_path / "policy", *more)
    assert refused.value.remedy.startswith("they can be annotated and tokenised, no more")


def test_codes_of_a_codebook_below_the_gate_lead_to_their_page(stores, tmp_path, monkeypatch):
    missed = "codes.used is 52, the limit is min 180"
    monkeypatch.setattr("vqvae.quality.gate.failed_limits", lambda quality: [missed])
    codes = tmp_path / "codes"
    printed = call("tokenize", stores / "depth", "--codebook", DEMO, "--out", codes)
    assert printed.splitlines()[-1] == f"next: depthtok report {codes}"
    page = store_report(CodeStore(codes)).to_json()
    (section,) = [s for s in page["sections"] if "below the quality gate" in s["title"]]
    assert section["paragraphs"] == ["number of codes used is 52, the limit is at least 180"]
