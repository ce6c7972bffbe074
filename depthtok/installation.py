"""What is installed, what is missing, and how to get it. Imports nothing heavy, changes nothing."""

import ctypes.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from operator import eq, ge, gt, le, lt, ne
from pathlib import Path
from typing import Any

from depthtok.format import human_bytes

GIB = 2**30
ROOM = 20e9  # bytes: a small suite's depth, codes and a run or two
SHARED_MEMORY = 1e9  # bytes: what loader workers and Ray need at least
# A requirement that another distribution of the same package meets as well.
SAME_PACKAGE = {"tensorflow-cpu": "tensorflow"}
# As the Hub cache names it.
PALIGEMMA = "models--google--paligemma-3b-pt-224"

PROBE = """
import json, torch
cuda = torch.cuda.is_available()
gpus = map(torch.cuda.get_device_properties, range(torch.cuda.device_count() if cuda else 0))
print(json.dumps({
    "devices": [[p.name, p.total_memory] for p in gpus],
    "bf16": cuda and torch.cuda.is_bf16_supported(),
    "mps": torch.backends.mps.is_available(),
    "built_for": torch.version.cuda,
}))
"""


class State(StrEnum):
    """Whether a thing is there."""

    OK = "ok"
    MISSING = "missing"  # nothing works without it
    OPTIONAL = "optional"  # absent, and only some commands want it


@dataclass(frozen=True)
class Row:
    """One thing that was looked at."""

    group: str
    name: str
    state: State
    detail: str
    remedy: str = ""


def _row(
    group: str, name: str, good: object, detail: str, remedy: str, absent: State = State.OPTIONAL
) -> Row:
    """A row that is ok, or `absent` and says what to do."""
    return Row(group, name, State.OK if good else absent, detail, "" if good else remedy)


def examine(environ: Mapping[str, str] = os.environ, work: Path = Path()) -> list[Row]:
    """Look at this machine: `work` is where output would go."""
    return [
        *_python(),
        *packages(_requirements()),
        *_machine(work),
        *devices(_probe()),
        _ray(environ),
        weights(hub_cache(environ)),
        *_renderers(),
    ]


def verdict(rows: Iterable[Row]) -> tuple[bool, str]:
    """Whether depthtok can work here, and a sentence that says so."""
    rows = list(rows)
    missing = [row.name for row in rows if row.state is State.MISSING]
    absent = sum(row.state is State.OPTIONAL for row in rows)
    if missing:
        return False, f"Not ready: {', '.join(missing)} missing."
    if absent:
        return True, f"Ready. {absent} optional thing{'s are' if absent > 1 else ' is'} not here."
    return True, "Ready, and everything optional is here."


def render(rows: Iterable[Row]) -> str:
    """The rows as a plain text table, a remedy below each thing that is not there."""
    rows = list(rows)
    width = max((len(row.name) for row in rows), default=0)
    lines: list[str] = []
    group = None
    for row in rows:
        if row.group != group:
            group = row.group
            lines += ["", group] if lines else [group]
        lines.append(f"  {row.state:<8}  {row.name:<{width}}  {row.detail}".rstrip())
        if row.remedy:
            lines.append(f"  {'':<8}  {'':<{width}}  -> {row.remedy}")
    return "\n".join([*lines, "", verdict(rows)[1]])


def _python() -> list[Row]:
    version = ".".join(str(number) for number in sys.version_info[:3])
    detail, good = f"{version} at {sys.executable}", sys.version_info >= (3, 11)
    return [_row("Python", "python", good, detail, "install 3.11 or newer", State.MISSING)]


def _requirements() -> list[str] | None:
    """The requirements of the installed depthtok; None where it runs without being installed."""
    try:
        return metadata.requires("depthtok") or []
    except metadata.PackageNotFoundError:
        return None


def packages(requirements: list[str] | None) -> list[Row]:
    """A row for each requirement (as in package metadata), core first, then extra by extra."""
    if requirements is None:
        detail = "runs from its source, not installed: packages were not checked"
        return [Row("Packages", "depthtok", State.OPTIONAL, detail, "pip install -e .")]
    rows = [Row("Packages", "depthtok", State.OK, metadata.version("depthtok"))]
    return rows + [_package(requirement) for requirement in requirements]


def _package(requirement: str) -> Row:
    need, _, marker = (text.strip() for text in requirement.partition(";"))
    name = re.split(r"[^\w.-]", need, maxsplit=1)[0]
    limits = re.sub(r"^[\w.-]+(\[[^\]]*\])?", "", need).strip(" ()")
    extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)", marker)
    group = f"Packages of [{extra[1]}]" if extra else "Packages"
    remedy = f"pip install 'depthtok[{extra[1]}]'" if extra else f"pip install '{name}{limits}'"
    absent = State.OPTIONAL if extra else State.MISSING
    version = _version(name) or _version(SAME_PACKAGE.get(name, ""))
    good = version is not None and satisfies(version, limits)
    detail = version or "not installed"
    if not good:
        detail += f", needs {limits or 'any version'}"
    return _row(group, name, good, detail, remedy, absent)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name) if name else None
    except metadata.PackageNotFoundError:
        return None


def satisfies(version: str, limits: str) -> bool:
    """Whether a version keeps to limits like `>=2,<3`, by its numbers (no pre-releases)."""

    def numbers(text: str) -> list[int]:
        release = [int(number) for number in re.findall(r"\d+", text.split("+")[0])[:3]]
        return release + [0] * (3 - len(release))

    tests = {">=": ge, "<=": le, "==": eq, "!=": ne, ">": gt, "<": lt}
    pairs = re.findall(r"(>=|<=|==|!=|>|<)\s*([\w.]+)", limits)
    return all(tests[sign](numbers(version), numbers(limit)) for sign, limit in pairs)


def _machine(work: Path) -> list[Row]:
    free = shutil.disk_usage(work).free
    disk = f"{human_bytes(free)} free at {work.resolve()}"
    room = f"give --out a place with {human_bytes(ROOM)}; --plan says what a run needs"
    rows = [
        Row("Machine", "cpu", State.OK, f"{cores()} cores"),
        Row("Machine", "memory", State.OK, human_bytes(memory())),
        _row("Machine", "disk", free >= ROOM, disk, room),
    ]
    shared = Path("/dev/shm")
    if shared.is_dir():
        size = shutil.disk_usage(shared).total
        remedy = "start the container with --shm-size=8g, or keep --workers 0"
        good = size >= SHARED_MEMORY
        rows.append(_row("Machine", "shared memory", good, human_bytes(size), remedy))
    return rows


def cores() -> int:
    """CPU cores that this process may use; of the machine where the system does not say (macOS)."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def memory() -> int:
    """Bytes of memory for this process: the machine's, or its container's limit if that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(limit).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            total = min(total, int(text))
    return total


def _probe() -> dict[str, Any] | str:
    """What torch sees, asked in a process of its own (a broken driver may take it down)."""
    if _version("torch") is None:
        return "torch is not installed"
    try:
        process = subprocess.run(
            [sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=120
        )
    except subprocess.TimeoutExpired:
        return "torch did not answer within 120 s"
    if process.returncode:
        return (process.stderr.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
    return json.loads(process.stdout.strip().splitlines()[-1])


def devices(probe: dict[str, Any] | str) -> list[Row]:
    """Rows for the accelerators that torch sees."""
    if isinstance(probe, str):
        remedy = "run `python -c 'import torch'` and mend what it says"
        return [Row("Devices", "torch", State.MISSING, probe, remedy)]
    rows = [
        Row("Devices", f"cuda:{number}", State.OK, f"{name}, {size / GIB:.0f} GiB")
        for number, (name, size) in enumerate(probe["devices"])
    ]
    if rows:
        good = probe["bf16"]
        detail = "in hardware" if good else "not in hardware"
        return [*rows, _row("Devices", "bfloat16", good, detail, "use float32 on this GPU")]
    if probe["mps"]:
        return [Row("Devices", "mps", State.OK, "Apple GPU")]
    built = probe["built_for"]
    detail = f"none; torch is built for {f'CUDA {built}' if built else 'CPU only'}"
    remedy = "the demo runs on the CPU; ViDA and training at full size want a GPU"
    if not built and shutil.which("nvidia-smi"):
        remedy = "there is an NVIDIA driver: install the CUDA build of torch"
    return [Row("Devices", "cuda", State.OPTIONAL, detail, remedy)]


def _ray(environ: Mapping[str, str]) -> Row:
    address = environ.get("RAY_ADDRESS")
    detail = f"cluster at {address}" if address else "no RAY_ADDRESS: workers start on this machine"
    return Row("Devices", "ray", State.OK, detail)


def hub_cache(environ: Mapping[str, str]) -> Path:
    """Where huggingface_hub keeps its files."""
    home = environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    hub = environ.get("HF_HOME") or Path(home) / "huggingface"
    return Path(environ.get("HF_HUB_CACHE") or Path(hub) / "hub").expanduser()


def weights(cache: Path) -> Row:
    """The policy's official weights in the Hub cache."""
    present = _has_weights(cache / PALIGEMMA)
    remedy = (
        "accept the licence at huggingface.co/google/paligemma-3b-pt-224, then `hf auth login`; "
        "the tiny presets need none"
    )
    detail = "paligemma-3b-pt-224" if present else f"not in {cache}"
    return _row("Weights", "PaliGemma", present, detail, remedy)


def _has_weights(repository: Path) -> bool:
    """Whether a cached repository holds weights, not only a cut download."""
    suffixes = {".pth", ".safetensors", ".pt", ".bin"}
    return any(path.suffix in suffixes for path in repository.glob("snapshots/*/*"))


def _renderers() -> list[Row]:
    renderers = [name for name in ("EGL", "OSMesa") if ctypes.util.find_library(name)]
    remedy = "apt-get install libosmesa6 libegl1 libegl-mesa0 libgl1-mesa-dri"
    detail = ", ".join(renderers) or "neither EGL nor OSMesa"
    return [_row("Simulator", "renderer", renderers, detail, remedy)]
