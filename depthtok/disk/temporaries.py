"""Temporary siblings of what is being written. Their names say who writes, which tells a running
job's work from what a dead one left.

    .tmp-<name>~<host>.<pid namespace>.<machine>~<process>~<start time>~<random>
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import socket
from pathlib import Path

TEMPORARY = ".tmp-"
INSTALLATION, KERNEL_START = "/etc/machine-id", "/proc/sys/kernel/random/boot_id"
FIRST_SPACE = 0xEFFFFFFC  # of process numbers: outside of any container


def sweep(directory: Path) -> int:
    """Removes temporary files and directories whose writer is dead; returns how many.

    Only a writer of this host can be known to be dead; others' leftovers stay until
    `depthtok verify --repair`, run when no job is running, takes them away.
    """
    return sum(discard(path) for path in _temporaries(directory) if _is_dead(path.name))


def sweep_all(directory: Path) -> int:
    """Removes every temporary file and directory; only when no job writes there."""
    return sum(discard(path) for path in _temporaries(directory))


def has_temporary(final: Path) -> bool:
    """Whether `final` is being written, or what an interrupted writer left of it is there."""
    return bool(_temporaries(final.parent, f"{final.name[:100]}~"))


def is_being_written(path: Path) -> bool:
    """Whether a temporary's writer is a process of this host that still runs."""
    return _is_here(path.name) and not _is_dead(path.name)


def is_of_another_host(path: Path) -> bool:
    """Whether a temporary's writer cannot be looked for here: whether it lives is not known."""
    return not _is_here(path.name)


def _temporaries(directory: Path, begin: str = "") -> list[Path]:
    entries = directory.iterdir() if directory.is_dir() else ()
    return sorted(path for path in entries if path.name.startswith(TEMPORARY + begin))


def discard(path: Path) -> int:
    """Removes a file or directory; returns 1, for counts."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    return 1


def temporary_sibling(path: Path) -> Path:
    """A new name beside `path` that tells who writes there, so that `sweep` knows the dead."""
    process, unique = os.getpid(), secrets.token_hex(4)
    writer = f"{host_name()}~{process}~{_start_time(process)}~{unique}"
    return path.parent / f"{TEMPORARY}{path.name[:100]}~{writer}"


def _is_dead(name: str) -> bool:
    """Whether the writer that the name tells of ran here and is gone."""
    if not _is_here(name):
        return False
    fields = name.rsplit("~", 4)
    process = int(fields[2])
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it lives, and is another user's
    return fields[3] != _start_time(process)  # its number went to another process


def _is_here(name: str) -> bool:
    """Whether the writer that the name tells of runs, or ran, on this host."""
    fields = name.rsplit("~", 4)
    return len(fields) == 5 and fields[1] == host_name() and fields[2].isdigit()


def host_name() -> str:
    """This host. On Linux with its space of process numbers, as containers can share a host's name;
    and with a mark of the machine, as hosts of one name, "localhost" say, can share a disk."""
    try:
        space = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        space = 0
    name = re.sub("[^A-Za-z0-9.-]", "-", socket.gethostname())
    return f"{name}.{space}.{_machine(space)}"


def _machine(space: int) -> str:
    """A mark of the machine: of its installation, so that it knows its own work after a restart; in
    a container, which comes without one, and ends as the machine does, of the kernel's start."""
    for path in (INSTALLATION, KERNEL_START) if space == FIRST_SPACE else (KERNEL_START,):
        try:
            text = Path(path).read_text().strip()
        except OSError:
            continue
        if text:
            return hashlib.sha256(text.encode()).hexdigest()[:8]
    return "0"


def _start_time(process: int) -> str:
    """When a process began, in the kernel's ticks; "0" where that is not told."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return "0"
    return status.rpartition(")")[2].split()[19]
