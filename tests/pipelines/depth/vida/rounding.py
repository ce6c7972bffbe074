"""Half precision as a GPU computes it, on a CPU: every operator sums in float32 and rounds once.

A CPU's own half-precision kernels are slow, round at other places, and some are missing.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

HALVES = (torch.float16, torch.bfloat16)
MOVES = {"_to_copy", "copy_", "clone", "cat", "index", "index_select", "empty_like"}


class Rounding(TorchDispatchMode):
    """Within it, operators on half-precision tensors are carried out in float32, and their results
    are rounded to the dtype that torch would give them."""

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if is_float(leaf)]
        moved = operator.is_view or operator.__name__.split(".")[0] in MOVES
        if operator.namespace == "depthtok":  # a kernel of ours, which rounds by itself
            return operator(*args, **kwargs)
        if moved or all(tensor.dtype not in HALVES for tensor in tensors):
            return operator(*args, **kwargs)
        wanted = kwargs.pop("out_dtype", None)
        if operator is torch.ops.aten.mm.dtype:  # CUDA's: half-precision factors, float32 result
            (*args, wanted), operator = args, torch.ops.aten.mm.default
        dtype = wanted or result_of(tensors)
        result = operator(*tree_map(widened, args), **tree_map(widened, kwargs))
        return tree_map(lambda leaf: leaf.to(dtype) if is_float(leaf) else leaf, result)


def is_float(leaf) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.is_floating_point()


def widened(leaf):
    return leaf.float() if is_float(leaf) else leaf


def result_of(tensors) -> torch.dtype:
    """The dtype that these are promoted to; scalars do not count."""
    dtype = None
    for tensor in [it for it in tensors if it.dim()] or tensors:
        dtype = tensor.dtype if dtype is None else torch.promote_types(dtype, tensor.dtype)
    return dtype
