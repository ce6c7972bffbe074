"""Data that came from elsewhere are never run: no pickles, no YAML."""

import re
from pathlib import Path

import depthtok

ROOT = Path(depthtok.__file__).parents[1]
FORBIDDEN = [
    r"allow_pickle\s*=\s*True",
    r"\byaml\b.*\bload\b",
    r"^\s*(import|from)\s+(cPickle|dill|joblib|shelve|marshal|yaml)\b",
    r"\bpickle\.(load|loads|Unpickler)\b",
    r"from pickle import",
    r"weights_only\s*=\s*False",
    r"torch\.load\((?![^)]*weights_only=True)",
    r"\b(eval|exec)\((?!\))",
]


def test_nothing_that_can_run_code_is_loaded():
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for package in ("depthtok", "pipelines", "vqvae", "vla")
        for path in sorted((ROOT / package).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for pattern in FORBIDDEN
        if re.search(pattern, line) and ".eval(" not in line
    ]
    assert found == []
