"""A stand-in for CUDA graphs on a CPU: it records operators, and repeats them on the same memory.

As with a graph, nothing but those operators runs again: what Python computed while recording, and
the tensors that it made from it, stay as they were.
"""

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Replaying(TorchDispatchMode):
    """Records a call, as `CudaRecorder` does: `runs` counts the calls of the function itself."""

    def __init__(self):
        super().__init__()
        self.steps, self.runs, self.replays = [], 0, 0

    def __call__(self, run):
        self.runs += 1
        outer, self.steps = self.steps, []
        with self:
            outputs = run()
        steps, self.steps = self.steps, outer

        def replay():
            self.replays += 1
            for operator, args, kwargs, out in steps:
                for memory, value in zip(
                    leaves(out), leaves(operator(*args, **kwargs)), strict=True
                ):
                    if memory.data_ptr() != value.data_ptr():  # not in place
                        memory.copy_(value)

        for leaf in leaves(outputs):
            leaf.fill_(float("nan"))  # recording computes nothing
        return outputs, replay

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        out = operator(*args, **(kwargs or {}))
        if operator._schema.is_mutable or not memory_of(out) <= memory_of((args, kwargs)):  # a view
            self.steps.append((operator, args, kwargs or {}, out))
        return out


def memory_of(tree):
    return {leaf.untyped_storage().data_ptr() for leaf in leaves(tree) if not leaf.is_mkldnn}


def leaves(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
