"""Stores that lack parts: what is suggested works on them, and `verify` says what they lack."""

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from depthtok.api.audit_depth import DepthAudit
from depthtok.api.verify import Verification
from depthtok.cli import audit_depth, verify
from depthtok.cli.next_step import after_convert, after_finetuning, partial
from depthtok.stores.codes import CodeStore
from depthtok.stores.verify import Finding
from depthtok.testing import make_rlds
from tests.commands.trainings import DEMO, MICRO, call

SHORT = """
[network]
width = 16
decoder_width = 16
[quantizer]
warmup = 2
[training]
crop = 32
steps = 3
batch = 2
held_out = 0.25
"""
PARTIAL = "--partial"


def next_of(*arguments: object) -> list[str]:
    """The command that another one suggests, in words."""
    *_, line = call(*arguments).splitlines()
    name, *words = shlex.split(line.removeprefix("next: "))
    assert name == "depthtok"
    return words


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory):
    """Episodes of two of three shards, and what is made of them; the commands suggested after."""
    out = tmp_path_factory.mktemp("unfinished")
    source = make_rlds(out / "rlds", episodes=6, steps=4, size=32)
    assert "next:" not in call("convert", source, "--out", out / "episodes", "--limit", "3")
    annotate = ("annotate", out / "episodes", "--estimator", "dataset", "--out", out / "depth")
    tokenize = ("tokenize", out / "depth", "--codebook", DEMO, "--out", out / "codes")
    then = {what[0]: next_of(*what, PARTIAL) for what in (annotate, tokenize)}
    return out, then


def test_a_new_codebook_encodes_depth_that_is_not_finished(unfinished):
    out, then = unfinished
    words = then["annotate"]
    assert words == ["train-vqvae", f"{out}/depth", "--out", f"{out}/codebook", PARTIAL]
    (out / "short.toml").write_text(SHORT)
    words = next_of(*words, "--preset", out / "short.toml")
    words[words.index("--out") + 1] = f"{out}/others"
    assert words[0] == "tokenize"
    assert f"next: depthtok report {out}/others" in call(*words), "it is below the gate"
    assert len(CodeStore(out / "others").missing()) == 1


def test_a_policy_learns_from_stores_that_are_not_finished(unfinished):
    out, then = unfinished
    words = then["tokenize"]
    assert words[0] == "train-vla"
    (out / "micro.toml").write_text(MICRO)
    words[words.index("tiny")] = f"{out}/micro.toml"
    words += ["--steps", "1", "--batch", "2", "--threads", "1", "--device", "cpu"]
    assert f"{out}/policy: 1 steps" in call(*words)


def test_codes_of_videos_that_are_not_finished_are_decoded(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "films" / name).mkdir(parents=True)
        picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(picture).save(tmp_path / "films" / name / "0.png")
    depth, codes = tmp_path / "depth", tmp_path / "codes"
    call("annotate", tmp_path / "films", "--estimator", "tiny", "--limit", "1", "--out", depth)
    words = next_of("tokenize", depth, "--codebook", DEMO, "--out", codes, PARTIAL)
    assert words[0] == "decode"
    assert f"{tmp_path}/decoded: 1 episodes" in call(*words)


def test_other_commands_that_are_suggested_take_what_is_there(unfinished, tmp_path, capsys):
    out, _ = unfinished
    weights = tmp_path / "weights.safetensors"
    again = after_finetuning(out / "depth", "vits", [], weights, None)
    assert shlex.split(again)[:3] == ["depthtok", "annotate", str(out / "episodes")]
    assert again.endswith(f" {PARTIAL}")
    audit_depth.tell(DepthAudit([], [], tmp_path / "audit.html"), [out / "depth"], False)
    *_, then = capsys.readouterr().out.splitlines()
    assert then == f"next: depthtok train-vqvae {out}/depth --out CODEBOOK {PARTIAL}"


def test_a_store_that_is_finished_needs_no_flag(tmp_path):
    source = make_rlds(tmp_path / "rlds", episodes=1, steps=2, size=32)
    call("convert", source, "--out", tmp_path / "episodes")
    estimate = shlex.split(after_convert(tmp_path / "episodes"))[1:]
    assert PARTIAL not in next_of(*estimate)


def test_what_a_store_lacks_is_counted_and_told_how_to_be_made(unfinished):
    out, _ = unfinished
    lacks = "lacks 1 of 3 parts (the first: train-00002-of-00003)"
    lines = call("verify", out / "episodes", code=1).splitlines()
    assert lines[0] == f"{out}/episodes {lacks}"
    assert lines[1].startswith("  fix: run the command that made it (`depthtok convert`) again")
    assert len(lines) == 2
    lines = call("verify", out / "codes", code=1).splitlines()
    assert lines[0] == f"{out}/codes {lacks}"
    assert lines[1].startswith(f"  fix: finish {out}/depth, which lacks parts, too; then run the")
    assert "`depthtok tokenize`" in lines[1]
    (finding,) = json.loads(call("verify", out / "codes", "--json", code=1))["findings"]
    assert finding["problem"] == f"{out}/codes lacks part train-00002-of-00003"


def test_many_parts_that_are_lacking_take_one_line(capsys):
    names = [f"train-{number:05}-of-01000" for number in range(1, 999)]
    findings = [Finding(f"S lacks part {name}", lacks=name) for name in names]
    findings.append(Finding("S/parts/x does not belong there"))
    code = verify.tell(Verification(Path("S"), findings, stage="annotate", parts=1000), False)
    lines = capsys.readouterr().out.splitlines()
    assert code == 1
    assert lines[:2] == [
        "S/parts/x does not belong there",
        "S lacks 998 of 1,000 parts (the first: train-00001-of-01000)",
    ]
    assert len(lines) == 3


def test_after_a_move_the_episodes_are_named_where_they_lie_now(unfinished, tmp_path):
    out, _ = unfinished
    for name in ("episodes", "depth"):
        shutil.copytree(out / name, tmp_path / name)
    away = (out / "episodes").rename(out / "away")
    try:
        words = next_of(
            *("tokenize", tmp_path / "depth", "--codebook", DEMO, "--out", tmp_path / "codes"),
            PARTIAL,
        )
    finally:
        away.rename(out / "episodes")
    assert words[: words.index("--codes")] == ["train-vla", "--episodes", f"{tmp_path}/episodes"]


def test_a_store_at_a_url_that_is_not_finished_is_known_to_be(unfinished, tmp_path):
    url = (tmp_path / "bucket" / "depth").as_uri()
    call("copy", unfinished[0] / "depth", url)
    assert partial(url) == partial(Path(url)) == (PARTIAL,)
