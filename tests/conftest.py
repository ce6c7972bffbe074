"""Every test runs with the packages' annotations checked, in the processes that it starts as well.

DEPTHTOK_CHECK_CALLS=0 turns it off. How it works is in tests/checked/. A test that is marked
`unchecked`, as torch.compile cannot trace checked functions, runs in a process of its own.
DEPTHTOK_COVERAGE=1 prints at the end which share of the packages' lines was run, by all processes
that run tests (`--numprocesses`).
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

CHECKED = str(Path(__file__).parent / "checked")

search_path = os.environ.get("PYTHONPATH", "")
if os.environ.setdefault("DEPTHTOK_CHECK_CALLS", "1") == "1":
    paths = [CHECKED, search_path]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    sys.path.append(CHECKED)

    import checked_calls

    checked_calls.install()

lines = None
counted: list = []  # the lines of the other processes that run tests
if os.environ.pop("DEPTHTOK_COVERAGE", "0") == "1":  # and not in the processes that tests start
    sys.path.append(CHECKED)

    import line_coverage

    lines = line_coverage.start()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Other processes run the tests, and begin with what this one was given."""
    os.environ["PYTHONPATH"] = search_path
    if lines is not None:
        os.environ["DEPTHTOK_COVERAGE"] = "1"


def pytest_sessionfinish(session: pytest.Session) -> None:
    if lines is not None and hasattr(session.config, "workeroutput"):
        session.config.workeroutput["lines"] = line_coverage.lines_of(lines)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node) -> None:
    if "lines" in (output := getattr(node, "workeroutput", {})):
        counted.append(output["lines"])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if lines is not None:
        terminalreporter.section("coverage")
        every = [*counted, line_coverage.lines_of(lines)]
        terminalreporter.write_line(line_coverage.summary(every))


@pytest.fixture(scope="module", autouse=True)
def _no_browser_stays():
    yield
    if "tests.browser" in sys.modules:
        sys.modules["tests.browser"].close()


def pytest_configure(config):
    if os.environ["DEPTHTOK_CHECK_CALLS"] == "1":
        # beartype draws which items of a list it looks at, also where hypothesis watches.
        config.addinivalue_line("filterwarnings", "ignore:Do not use the `random` module inside")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs a test marked `unchecked`; None leaves a test to pytest."""
    if os.environ["DEPTHTOK_CHECK_CALLS"] != "1" or not pyfuncitem.get_closest_marker("unchecked"):
        return None
    command = [sys.executable, "-m", "pytest", "-q", "-rA", pyfuncitem.nodeid]
    environment = os.environ | {"DEPTHTOK_CHECK_CALLS": "0"}
    with TemporaryDirectory() as folder:  # not the common one, where it would tidy up after others
        run = subprocess.run(
            [*command, "--basetemp", f"{folder}/tests"],
            env=environment,
            cwd=pyfuncitem.config.rootpath,
            capture_output=True,
            text=True,
        )
    assert run.returncode == 0, run.stdout + run.stderr
    if "1 skipped" in run.stdout:
        pytest.skip(run.stdout.partition("SKIPPED ")[2].splitlines()[0])
    assert "1 passed" in run.stdout, run.stdout
    return True
