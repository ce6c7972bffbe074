"""The doctor: its verdict, its remedies, and that it is quick and harmless."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from depthtok import installation
from depthtok.config import to_json
from depthtok.installation import Row, State, devices, examine, packages, render, satisfies, verdict
from tests.checked.checked_calls import unchecked

NOTHING = {"devices": [], "bf16": False, "mps": False, "built_for": None}


def test_requirements_become_rows_core_first_and_by_extra(monkeypatch):
    versions = {"depthtok": "0.1.0", "numpy": "2.3.1", "zarr": "2.18", "tensorflow": "2.20.0"}
    monkeypatch.setattr(installation.metadata, "version", lambda name: _look_up(versions, name))
    rows = packages(
        [
            "numpy<3,>=2",
            "zarr<4,>=3.1",
            "torch>=2.6",
            "tensorflow-cpu>=2.18; extra == 'tf'",
            'h5py; extra == "sim"',
        ]
    )
    by_name = {row.name: row for row in rows}
    assert by_name["numpy"].state is State.OK
    assert by_name["numpy"].remedy == ""
    assert by_name["zarr"].state is State.MISSING
    assert "2.18, needs <4,>=3.1" in by_name["zarr"].detail
    assert by_name["torch"].remedy == "pip install 'torch>=2.6'"
    assert by_name["tensorflow-cpu"].state is State.OK  # tensorflow is the same package
    assert by_name["h5py"].state is State.OPTIONAL
    assert by_name["h5py"].group == "Packages of [sim]"
    assert by_name["h5py"].remedy == "pip install 'depthtok[sim]'"


def _look_up(versions: dict[str, str], name: str) -> str:
    if name not in versions:
        raise installation.metadata.PackageNotFoundError(name)
    return versions[name]


def test_running_from_source_is_said():
    (row,) = packages(None)
    assert row.state is State.OPTIONAL
    assert "pip install" in row.remedy


@pytest.mark.parametrize(
    ("version", "limits", "good"),
    [
        ("2.13.0+cpu", ">=2.6", True),
        ("2.5.9", ">=2.6", False),
        ("3.0.0", ">=2,<3", False),
        ("2.9", ">=2,<3", True),
        ("3.3.7", ">=3.3.2,<3.4", True),
        ("1.4.0", "==1.4.0", True),
        ("1.4", "==1.4.0", True),
        ("0.1", "", True),
    ],
)
def test_versions_are_compared_by_number(version, limits, good):
    assert satisfies(version, limits) is good


def test_devices():
    (row,) = devices(NOTHING)
    assert row.state is State.OPTIONAL
    assert "CPU only" in row.detail
    two = NOTHING | {"devices": [["H200", 141 * 2**30]] * 2, "bf16": True}
    assert [row.name for row in devices(two)] == ["cuda:0", "cuda:1", "bfloat16"]
    assert devices(two)[0].detail == "H200, 141 GiB"
    assert all(row.state is State.OK for row in devices(two))
    assert devices("ImportError: libcudart")[0].state is State.MISSING
    assert devices(NOTHING | {"mps": True})[0].name == "mps"


def test_weights_in_the_cache_are_found_and_cut_downloads_are_not(tmp_path):
    assert installation.weights(tmp_path).state is State.OPTIONAL
    assert "licence" in installation.weights(tmp_path).remedy
    small = tmp_path / installation.PALIGEMMA
    (small / "blobs").mkdir(parents=True)
    (small / "blobs" / "1234.incomplete").write_bytes(b"x")
    assert installation.weights(tmp_path).state is State.OPTIONAL
    (small / "snapshots" / "abc").mkdir(parents=True)
    (small / "snapshots" / "abc" / "model.safetensors").write_bytes(b"x")
    assert installation.weights(tmp_path).state is State.OK


def test_the_cache_is_where_the_hub_library_looks():
    assert installation.hub_cache({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}) == Path("/a")
    assert installation.hub_cache({"HF_HOME": "/b"}) == Path("/b/hub")
    assert installation.hub_cache({"XDG_CACHE_HOME": "/c"}) == Path("/c/huggingface/hub")


def test_the_verdict_and_the_table():
    rows = [
        Row("A", "numpy", State.OK, "2.0"),
        Row("A", "torch", State.MISSING, "not installed", "pip install torch"),
        Row("B", "EGL", State.OPTIONAL, "not found", "apt-get install x"),
    ]
    assert verdict(rows) == (False, "Not ready: torch missing.")
    assert verdict([rows[0], rows[2]]) == (True, "Ready. 1 optional thing is not here.")
    assert render(rows) == (
        "A\n"
        "  ok        numpy  2.0\n"
        "  missing   torch  not installed\n"
        "                   -> pip install torch\n"
        "\n"
        "B\n"
        "  optional  EGL    not found\n"
        "                   -> apt-get install x\n"
        "\n"
        "Not ready: torch missing."
    )


def test_this_machine_is_examined_without_heavy_imports(tmp_path, monkeypatch):
    monkeypatch.setattr(installation, "_probe", lambda: NOTHING)
    rows = examine({}, tmp_path)
    assert {"python", "cpu", "memory", "disk", "ray", "renderer"} <= {row.name for row in rows}
    assert json.loads(json.dumps(to_json(rows)))[0]["state"] == "ok"
    assert render(rows)
    code = (
        "import sys, depthtok.installation as d\n"
        "d._probe = lambda: 'not asked'\n"
        "d.examine()\n"
        "print(sorted({'numpy', 'torch', 'ray', 'zarr'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=unchecked())
    assert done.stdout.strip() == "[]"


def test_a_torch_that_cannot_start_is_a_row_not_a_crash(monkeypatch):
    monkeypatch.setattr(installation, "_version", lambda name: "2.6")
    monkeypatch.setattr(installation, "PROBE", "raise ImportError('libcudart.so.12')")
    assert installation._probe() == "ImportError: libcudart.so.12"
    monkeypatch.setattr(installation, "PROBE", "import os; os.kill(os.getpid(), 9)")
    assert installation._probe() == "exit code -9"
