"""The share of lines that `make check` prints: what is run is counted, and calls stay checked."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROGRAM = """
import json, sys
sys.path.append("tests/checked")
import checked_calls, line_coverage
checked_calls.install()
counter = line_coverage.start()
from depthtok.shuffle import Permutation
from vqvae.codec import fill_invalid
numbers = [Permutation(5, 3)[position] for position in range(5)]
try:
    fill_invalid(1, 2, 3)
except Exception as error:
    refused = type(error).__name__
print(json.dumps({
    "numbers": numbers,
    "refused": refused,
    "lines": counter.get_coverage()["files"]["depthtok/shuffle.py"],
    "shares": line_coverage.shares([line_coverage.lines_of(counter)]),
    "summary": line_coverage.summary([line_coverage.lines_of(counter)]),
}))
"""


@pytest.fixture(scope="module")
def printed():
    """What a process prints that counts its lines."""
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_lines_that_are_run_are_counted(printed):
    assert sorted(printed["numbers"]) == [0, 1, 2, 3, 4]
    assert printed["refused"] == "TypeCheckError"
    text = (ROOT / "depthtok/shuffle.py").read_text().splitlines()
    executed, missing = (
        {text[number - 1].strip() for number in printed["lines"][f"{which}_lines"]}
        for which in ("executed", "missing")
    )
    assert {"self.n = n", "return values.astype(np.int64)", "ROUNDS = 6"} < executed
    # Those after a condition that never was true, and of a function that nobody called.
    assert missing == {
        'raise ValueError(f"a permutation of {n} things")',
        "return self.n",
        'raise IndexError(f"position {position} of {self.n}")',
    }


def test_files_that_nobody_imports_count_as_not_run(printed):
    shares = printed["shares"]
    assert shares["vla"][0] == 0
    assert shares["vla"][1] > 4000
    assert 0 < shares["vqvae"][0] < shares["vqvae"][1]
    run, every = (sum(column) for column in zip(*shares.values(), strict=True))
    assert re.match(rf"coverage: {100 * run / every:.1f} % of {every:,} lines", printed["summary"])
