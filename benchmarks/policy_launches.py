"""What a chunk of actions launches on a GPU at batch 1, counted without one.

    python benchmarks/policy_launches.py [--cameras 1 2 3] [--preset qdepth] [--rows]

The plain path (`QDepthVLA.sample`) and the one in few launches (`vla/serving/sampling.py`), in
bfloat16.
`compiled` counts the calls of the latter's elementwise parts as one launch each (the rotation as
two), as a compiler fuses them: an estimate, where the others are counts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from launches import Tally, counting
from torch import Tensor

from vla.config import ModelConfig
from vla.model.batch import Observation
from vla.model.model import QDepthVLA
from vla.named_configs import load
from vla.serving import rows, running, sampling

DTYPE = torch.bfloat16
SAVED = {"norm": 0, "turn": 3, "gate": 1}  # launches of each part, by compiling it


def count(config: ModelConfig, sampler: str, width: int = 1) -> Tally:
    """What one pass launches."""
    with torch.device("meta"):
        model = QDepthVLA(config).eval()
    entrance = None if sampler == "plain" else sampling.fold(model)
    running.cast(model, DTYPE)
    *inputs, noise = (tensor.to("meta") for tensor in rows.example(config, width, 0))
    if entrance is None:
        function = model.sample
    else:
        parts, calls = _noted()
        function = sampling.Sampler(model, entrance, parts)
    with torch.no_grad(), counting() as tally:
        function(Observation(*inputs), noise)
    if sampler == "compiled":
        tally.launches["saved by compiling (estimate)"] -= sum(map(SAVED.get, calls))
    return tally


def _noted() -> tuple[sampling.Parts, list[str]]:
    """The parts, with a list of what was called."""
    calls: list[str] = []

    def noting(name: str, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def noted(*given: object) -> Tensor:
            calls.append(name)
            return function(*given)

        return noted

    named = sampling.EAGER._asdict().items()
    return sampling.Parts(*(noting(name, function) for name, function in named)), calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="qdepth")
    parser.add_argument("--cameras", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rows", action="store_true", help="by operator")
    options = parser.parse_args()
    for cameras in options.cameras:
        for change in ("", "+no-depth-expert"):
            config = load(options.preset + change, {"model.cameras": cameras}).model
            for sampler in ("plain", "folded", "compiled"):
                tally = count(config, sampler)
                print(
                    f"{options.preset + change:24} {cameras} camera(s)  {sampler:9}"
                    f"{tally.total:6} launches + {tally.copies:4} copies  "
                    f"{tally.bytes / 1e9:5.1f} GB"
                )
                for name, times in tally.launches.most_common() if options.rows else ():
                    print(f"    {times:6} {name}")


if __name__ == "__main__":
    main()
