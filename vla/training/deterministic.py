"""Two runs of one seed equal to the bit on CUDA (`train.deterministic`).

There, several kernels sum in the order in which their threads happen to finish: attention's and
convolutions' backward passes, matrix products that are split. All that a training here uses has a
deterministic form; torch refuses what has none. Equal bits need the same kind of GPU, the same
versions and the same number of processes and passes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from depthtok.errors import ConfigError, TrainingError

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # read by cuBLAS when it starts
SIZES = (":4096:8", ":16:8")  # with which its products are deterministic


def before_cuda() -> None:
    """Sets what must be set before CUDA starts. Raises `ConfigError` if it is too late."""
    value = os.environ.get(WORKSPACE)
    if value is None and not torch.cuda.is_initialized():
        os.environ[WORKSPACE] = SIZES[0]
    elif value not in SIZES:
        was = "is not set, and CUDA has started" if value is None else f"is {value!r}"
        raise ConfigError(
            f"a deterministic training needs {WORKSPACE}={SIZES[0]}, but it {was}",
            remedy=f"set it before: {WORKSPACE}={SIZES[0]} depthtok train-vla ...",
        )


@contextmanager
def reproducible(wanted: bool, device: torch.device, compiled: bool = False) -> Iterator[None]:
    """Within the block all algorithms are deterministic, if `wanted`; afterwards as before. Raises
    `ConfigError` where they cannot be, `TrainingError` for an operation that has no such form."""
    if not wanted:
        yield
        return
    if device.type == "cuda":
        before_cuda()
    if compiled:
        _require_deterministic_compiler()
    cudnn, cuda = torch.backends.cudnn, torch.backends.cuda
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        (cudnn.deterministic, cudnn.benchmark, cuda.cudnn_sdp_enabled()),
    )
    try:
        torch.use_deterministic_algorithms(True)
        _choose(True, False, False)
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error) or isinstance(error, torch.OutOfMemoryError):
            raise
        raise TrainingError(
            str(error).split("\n")[0], remedy="leave train.deterministic out, in another --out"
        ) from error
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        _choose(*before[2])


def _choose(deterministic: bool, benchmark: bool, attention: bool) -> None:
    """cuDNN's convolutions and its attention, whose backward pass is not deterministic."""
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = benchmark
    torch.backends.cuda.enable_cudnn_sdp(attention)


def _require_deterministic_compiler() -> None:
    """Others choose kernels by how fast they happen to be."""
    import torch._functorch.config as functorch
    import torch._inductor.config as inductor

    here = hasattr(functorch, "force_non_lazy_backward_lowering")  # see `compiling.deterministic`
    if not (here and hasattr(inductor, "deterministic")):
        raise ConfigError(
            f"torch {torch.__version__} cannot compile deterministically",
            remedy="leave run.compile or train.deterministic out, or install a newer torch",
        )
