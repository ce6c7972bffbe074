"""Commands are printed as they can be typed."""

import sys

import pytest

from depthtok import log


@pytest.mark.parametrize(
    ("started", "on_path", "program"),
    [
        (".venv/bin/depthtok", None, ".venv/bin/depthtok"),
        (".venv/bin/depthtok", "/usr/bin/depthtok", "depthtok"),
        ("depthtok", "/usr/bin/depthtok", "depthtok"),
        ("-c", None, "depthtok"),
        ("a notebook.py", None, "depthtok"),
        ("", None, "depthtok"),
    ],
)
def test_a_command_can_be_typed_where_it_is_printed(monkeypatch, started, on_path, program):
    monkeypatch.setattr(sys, "argv", [started] if started else [])
    monkeypatch.setattr(log, "which", lambda name: on_path)
    assert log.typed("inspect", "my data") == f"{program} inspect 'my data'"
