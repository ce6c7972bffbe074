"""Figures of a study from the files of its seeds: nothing else is there."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from tests.pipelines.ablate.test_foretelling import drawn

ROOT = Path(__file__).parents[2]
STUDY = """
out = "{out}/runs"
results = "{out}/results"
seeds = [0, 1, 2]
[variants]
a = "tiny"
b = "tiny"
[train-vla]
episodes = ["nowhere"]
codes = ["nowhere"]
"""


def test_figures_of_what_is_finished(tmp_path):
    study = tmp_path / "study.toml"
    study.write_text(STUDY.format(out=tmp_path))
    words = [sys.executable, "tools/study_figures.py", study, tmp_path]
    nothing = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert nothing.returncode == 2
    assert "no seed of" in nothing.stderr
    for arm in ("a", "b"):
        for seed in (0, 2):
            replace(drawn(seed, arm == "a"), arm=arm).write(tmp_path / "results")
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    for name in ("differences", "foretelling"):
        assert ElementTree.parse(tmp_path / f"{name}.svg").getroot().tag.endswith("svg")
