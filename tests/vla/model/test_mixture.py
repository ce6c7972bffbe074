"""Sequential experts equal one joint attention, outputs and gradients."""

import pytest
import torch

from depthtok.errors import ConfigError
from vla.config import ExpertConfig
from vla.model.gemma import Expert
from vla.model.masks import SEES, Layout, SeesTable
from vla.model.mixture import TokenStream, joint, sequential

WIDTHS = {"vlm": 24, "depth": 16, "action": 12}
BATCH = 3


def experts() -> dict[str, Expert]:
    torch.manual_seed(0)
    shared = {"layers": 3, "heads": 4, "kv_heads": 1, "head_dim": 8}
    experts_by_name = {
        n: Expert(ExpertConfig(width=w, mlp=2 * w, **shared)) for n, w in WIDTHS.items()
    }
    for expert in experts_by_name.values():
        expert.double()
        for weight in expert.parameters():
            torch.nn.init.normal_(weight, std=0.3)
    return experts_by_name


def streams() -> list[TokenStream]:
    torch.manual_seed(1)
    text_valid = torch.arange(5)[None] < torch.tensor([[5], [2], [3]])
    valid = torch.cat([torch.ones(BATCH, 6, dtype=torch.bool), text_valid], dim=1)
    layouts = {
        "vlm": Layout((("image", 6), ("text", 5)), valid),
        "depth": Layout((("depth", 6),)),
        "action": Layout((("proprio", 1), ("action", 4))),
    }
    return [
        TokenStream(
            name,
            torch.randn(BATCH, len(layout), WIDTHS[name], dtype=torch.float64).requires_grad_(),
            torch.arange(1, len(layout) + 1).expand(BATCH, -1),
            layout,
        )
        for name, layout in layouts.items()
    ]


def gradients(run, table):
    """Real tokens' outputs, and the gradients of a fixed random projection of them."""
    networks, inputs = experts(), streams()
    outputs = run(networks, inputs, table)
    torch.manual_seed(2)
    real = {
        s.expert: outputs[s.expert]
        * (1.0 if s.layout.valid_BT is None else s.layout.valid_BT[..., None])
        for s in inputs
    }
    sum((x * torch.randn_like(x)).sum() for x in real.values()).backward()
    weights = [w.grad for expert in networks.values() for w in expert.parameters()]
    return list(real.values()), weights + [s.x_BTW.grad for s in inputs]


def difference(a, b) -> float:
    return max((x - y).abs().max().item() for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("action_sees_depth", [True, False])
@pytest.mark.parametrize("mask", list(SEES))
def test_sequential_equals_joint(mask, action_sees_depth):
    table = SeesTable.named(mask, action_sees_depth)
    outputs, grads = gradients(sequential, table)
    expected, expected_grads = gradients(joint, table)
    assert difference(outputs, expected) < 1e-12
    assert difference(grads, expected_grads) < 1e-10


def test_another_table_differs():
    """The negative control: one hidden cell shows, so the equality above is not vacuous."""
    table = SeesTable.named("qdepth")
    outputs, grads = gradients(sequential, table)
    other, other_grads = gradients(joint, table.hiding("action", "depth"))
    assert difference(outputs, other) > 1e-3
    assert difference(grads, other_grads) > 1e-3


def test_one_hidden_key_shows():
    table, inputs, networks = SeesTable.named("qdepth"), streams(), experts()
    tokens = sum(len(stream.layout) for stream in inputs)
    bias = torch.zeros(tokens, tokens, dtype=torch.float64)
    bias[-1, 3] = -torch.inf
    plain = joint(networks, inputs, table)["action"]
    assert (joint(networks, inputs, table, bias=bias)["action"] - plain).abs().max() > 1e-4


def test_seeing_a_later_stream_is_refused():
    table = SeesTable.named("qdepth")
    cells = {**table.cells, "image": {**table.cells["image"], "depth": "x"}}
    with pytest.raises(ConfigError, match="image attends to depth"):
        sequential(experts(), streams(), SeesTable(cells))


def test_padding_does_not_matter():
    """What stands in padded places reaches no real token."""
    table, networks, inputs = SeesTable.named("prefix"), experts(), streams()
    changed = inputs[0].x_BTW.detach().clone()
    changed[~inputs[0].layout.valid_BT] = 7.0
    other = [TokenStream("vlm", changed, inputs[0].positions_BT, inputs[0].layout), *inputs[1:]]
    a, b = sequential(networks, inputs, table), sequential(networks, other, table)
    assert torch.equal(a["action"], b["action"])
    assert torch.equal(a["depth"], b["depth"])


def test_recomputed_activations_change_nothing():
    table = SeesTable.named("qdepth")

    def recomputing(made, given, table):
        for expert in made.values():
            expert.recompute = True
        return sequential(made, given, table)

    a, b = gradients(sequential, table), gradients(recomputing, table)
    assert difference(a[0], b[0]) == 0
    assert difference(a[1], b[1]) == 0


def test_soft_cap_bounds_the_logits():
    table, networks, inputs = SeesTable.named("qdepth"), experts(), streams()
    free, loose = joint(networks, inputs, table), joint(networks, inputs, table, soft_cap=1e6)
    tight = joint(networks, inputs, table, soft_cap=0.1)
    assert torch.allclose(free["action"], loose["action"])
    assert not torch.allclose(free["action"], tight["action"], atol=1e-3)
