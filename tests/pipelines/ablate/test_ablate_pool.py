"""Runs of a study side by side: so many at once, of low priority, failures told, no orphans."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from depthtok.errors import ConfigError
from pipelines.ablate import pool

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Errand:
    """Notes when it ran and how nice it was; may wait, fail or die."""

    folder: Path
    name: str
    does: str = ""

    @property
    def title(self):
        return self.name

    @property
    def log(self):
        return self.folder / f"{self.name}.log"

    def carry_out(self):
        begun = time.monotonic()
        print("at work")
        if self.does == "fail":
            raise ConfigError("no such thing", remedy="give another")
        if self.does == "break":
            raise ValueError("broken")
        if self.does == "die":
            os._exit(9)
        (self.folder / f"{self.name}.pid").write_text(str(os.getpid()))
        time.sleep(60 if self.does == "wait" else 0.4)
        words = f"{begun} {time.monotonic()} {os.nice(0)}"
        (self.folder / f"{self.name}.txt").write_text(words)


def test_so_many_run_at_once_and_yield(tmp_path):
    errands = [Errand(tmp_path, f"{n}") for n in range(5)]
    ended = list(pool.run(errands, 2, 3))
    assert {finished.job.name for finished in ended} == {"0", "1", "2", "3", "4"}
    assert not any(finished.failure for finished in ended)
    rows = [(tmp_path / f"{n}.txt").read_text().split() for n in range(5)]
    assert {int(row[2]) for row in rows} == {min(os.nice(0) + 3, 19)}
    spans = [(float(begun), float(end)) for begun, end, _ in rows]
    at_once = [sum(a <= begun < b for a, b in spans) for begun, _ in spans]
    assert max(at_once) <= 2
    assert "at work" in (tmp_path / "0.log").read_text()


def test_failures_are_told_and_stop_no_other(tmp_path):
    errands = [Errand(tmp_path, does or "fine", does) for does in ("fail", "break", "die", "")]
    failures = {f.job.name: f.failure for f in pool.run(errands, 2, 0)}
    assert failures["fail"] == "no such thing (to mend it: give another)"
    assert failures["break"].startswith("ValueError: broken; see ")
    assert "exit code 9" in failures["die"]
    assert failures["fine"] == ""
    assert "Traceback" in (tmp_path / "break.log").read_text()


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_nothing_runs_on_when_the_parent_is_killed(tmp_path):
    code = (
        "from pathlib import Path\n"
        "from tests.pipelines.ablate.test_ablate_pool import Errand, pool\n"
        f"list(pool.run([Errand(Path({str(tmp_path)!r}), 'w', 'wait')], 1, 0))\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(
        f"if __name__ == '__main__':\n    {code.replace(chr(10), chr(10) + '    ')}\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, script], env=environment, cwd=ROOT)
    latest = time.monotonic() + 120
    while not (tmp_path / "w.pid").exists() or not (tmp_path / "w.pid").read_text():
        assert time.monotonic() < latest
        time.sleep(0.1)
    child = int((tmp_path / "w.pid").read_text())
    assert not gone(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while not gone(child):
        assert time.monotonic() < latest
        time.sleep(0.1)
