"""A policy on a GPU in every way to run it: the actions of the plain model, in any company."""

import pytest
import torch

from tests.vla.serving.test_running import NAMES, observation
from tests.vla.serving.test_sampling import made
from vla.data.normalise import Norms, Scale
from vla.serving.policy import Policy
from vla.serving.running import PRECISIONS, Running

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
OFF = {"float32": 2e-5, "tf32": 2e-2, "bfloat16": 0.1}  # of units from -1 to 1
WIDTH = 5


def acts(micro, codebook, running, cameras=2, device="cuda", numbers=((0,), (1,), (2,))):
    """A chunk for each number, passes in a row."""
    config = micro(model__cameras=cameras, data__cameras=NAMES[:cameras], model__flow__clip=0.0)
    units = Norms(*(Scale((-1.0,) * n, (1.0,) * n) for n in (7, 8)))
    policy = Policy(made(config, codebook), config, units, device=device, running=running)
    chunks = {}
    for one_pass in numbers:
        seen = [policy.observe([observation(n, cameras)]) for n in one_pass]
        dice = [torch.Generator().manual_seed(n) for n in one_pass]
        for number, chunk in zip(one_pass, policy.acts(seen, dice), strict=True):
            chunks.setdefault(number, []).append(torch.from_numpy(chunk))
    return chunks


def largest(one, other):
    return max((one[n][0] - other[n][0]).abs().max().item() for n in one)


@pytest.mark.parametrize("cameras", [1, 2, 3])
@pytest.mark.parametrize("sampler", ["plain", "folded"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_actions_are_those_of_the_cpu_and_a_graph_changes_no_byte(
    micro, codebook, precision, sampler, cameras
):
    true = acts(micro, codebook, Running("float32", "plain"), cameras, "cpu")
    eager, graph = (
        acts(micro, codebook, Running(precision, sampler, cuda_graph=g), cameras)
        for g in (False, True)
    )
    assert max(chunk[0].abs().max() for chunk in true.values()) > 0.5
    assert largest(eager, true) < OFF[precision]
    assert largest(graph, eager) == 0


@pytest.mark.unchecked
@pytest.mark.parametrize("precision", PRECISIONS)
def test_compiled_parts_act_alike(micro, codebook, precision):
    true = acts(micro, codebook, Running("float32", "plain"), device="cpu")
    eager, graph = (
        acts(micro, codebook, Running(precision, "compiled", cuda_graph=g)) for g in (False, True)
    )
    assert largest(eager, true) < OFF[precision]
    assert largest(graph, eager) == 0


@pytest.mark.parametrize("sampler", ["plain", "folded"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_answer_does_not_depend_on_its_company(micro, codebook, precision, sampler):
    passes = ((0, 1, 2, 3, 4), (0,), (4,), (2, 0, 4), (4, 3, 2, 1, 0))
    chunks = acts(micro, codebook, Running(precision, sampler, batch=WIDTH), numbers=passes)
    for answers in chunks.values():
        assert len(answers) >= 2
        assert all(torch.equal(answer, answers[0]) for answer in answers)
