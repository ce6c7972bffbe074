"""open-pi-zero's tensors give open-pi-zero's velocities, by its conventions written out anew."""

import math

import pytest
import torch
import torch.nn.functional as F

from depthtok.errors import WeightsError
from tests.vla.model.test_model import observation
from vla.model.model import build
from vla.training import restoring
from vla.weights.openpizero import from_open_pi_zero
from vla.weights.pretrained import pretrained

VISION = {
    "self_attn.q_proj": (32, 32),
    "self_attn.k_proj": (32, 32),
    "self_attn.v_proj": (32, 32),
    "self_attn.out_proj": (32, 32),
    "mlp.fc1": (64, 32),
    "mlp.fc2": (32, 64),
    "layer_norm1": (32,),
    "layer_norm2": (32,),
}


@pytest.fixture
def config(micro):
    over = {"model__depth__expert": False, "model__mask": "prefix", "model__vocabulary": 300}
    return micro(**over, model__flow__time_period=10_000.0).model


@pytest.fixture
def theirs(config):
    """A checkpoint's tensors, random."""
    torch.manual_seed(0)
    head = config.vlm.head_dim
    shapes = {
        "embed_tokens.weight": (300, 32),
        "vision_tower.vision_model.embeddings.patch_embedding.weight": (32, 3, 8, 8),
        "vision_tower.vision_model.embeddings.patch_embedding.bias": (32,),
        "vision_tower.vision_model.embeddings.position_embedding.weight": (16, 32),
        "vision_tower.vision_model.post_layernorm.weight": (32,),
        "vision_tower.vision_model.post_layernorm.bias": (32,),
        "multi_modal_projector.linear.weight": (32, 32),
        "multi_modal_projector.linear.bias": (32,),
        "joint_model.mixtures.action.norm.weight": (32,),
        **linear("action_encoder.linear_1", 32, 7),
        **linear("action_encoder.linear_2", 32, 64),
        **linear("action_encoder.linear_3", 32, 32),
        **linear("proprio_encoder", 32, 8),
        **linear("action_decoder", 7, 32),
    }
    for name, shape in VISION.items():
        layer = f"vision_tower.vision_model.encoder.layers.0.{name}"
        shapes |= {f"{layer}.weight": shape, f"{layer}.bias": shape[:1]}
    for mixture in ("vlm", "action"):
        for index in range(config.vlm.layers):
            layer = f"joint_model.mixtures.{mixture}.layers.{index}."
            shapes |= {
                f"{layer}input_layernorm.weight": (32,),
                f"{layer}post_attention_layernorm.weight": (32,),
                f"{layer}self_attn.q_proj.weight": (config.vlm.heads * head, 32),
                f"{layer}self_attn.k_proj.weight": (head, 32),
                f"{layer}self_attn.v_proj.weight": (head, 32),
                f"{layer}self_attn.o_proj.weight": (32, config.vlm.heads * head),
                f"{layer}mlp.gate_proj.weight": (64, 32),
                f"{layer}mlp.up_proj.weight": (64, 32),
                f"{layer}mlp.down_proj.weight": (32, 64),
            }
    tensors = {name: torch.randn(shape) * shape[-1] ** -0.5 for name, shape in shapes.items()}
    shared = {n.replace(".action.", ".proprio."): t for n, t in tensors.items() if ".action." in n}
    return tensors | shared


def linear(name, rows, columns):
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def rms(x, weight):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * (1 + weight)


def rope(x_BTNH, positions_T):
    half = x_BTNH.shape[-1] // 2
    angles = positions_T[:, None] / 10_000 ** (torch.arange(half) / half)
    cos, sin = (torch.cat([f(angles)] * 2, -1)[:, None] for f in (torch.cos, torch.sin))
    turned = torch.cat([-x_BTNH[..., half:], x_BTNH[..., :half]], -1)
    return x_BTNH * cos + turned * sin


def velocity(w, config, features_BTW, seen, actions, time):
    """Theirs: every stream scaled by the root of its width, one attention over all tokens."""

    def affine(name, x):
        return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    half = 16
    periods = torch.exp(torch.arange(half) * -math.log(10_000) / (half - 1))
    emb = time[:, None] * periods
    emb = torch.cat([emb.sin(), emb.cos()], -1)[:, None].expand(-1, actions.shape[1], -1)
    mixed = torch.cat([emb, affine("action_encoder.linear_1", actions)], -1)
    action = affine("action_encoder.linear_3", F.silu(affine("action_encoder.linear_2", mixed)))
    text = w["embed_tokens.weight"][seen.text_BL]
    prefix = torch.cat([features_BTW / 32**0.5, text], 1)
    streams = {
        "vlm": prefix,
        "proprio": affine("proprio_encoder", seen.proprio_BP)[:, None],
        "action": action,
    }
    streams = {name: x * 32**0.5 for name, x in streams.items()}
    counts = [x.shape[1] for x in streams.values()]
    positions = [torch.arange(1, counts[0] + 1), torch.ones(1), torch.arange(2, counts[2] + 2)]
    kinds = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
    valid = torch.cat([seen.text_valid_BL.new_ones(features_BTW.shape[:2]), seen.text_valid_BL], 1)
    valid = F.pad(valid, (0, 1 + counts[2]), value=True)
    mask = (kinds[:, None] >= kinds[None])[None] & valid[:, None]
    for index in range(config.vlm.layers):
        q, k, v = [], [], []
        for (name, x), at in zip(streams.items(), positions, strict=True):
            layer = f"joint_model.mixtures.{name}.layers.{index}."
            h = rms(x, w[layer + "input_layernorm.weight"])
            for kind, parts in (("q", q), ("k", k), ("v", v)):
                y = F.linear(h, w[f"{layer}self_attn.{kind}_proj.weight"])
                y = y.unflatten(-1, (-1, config.vlm.head_dim))
                parts.append(y if kind == "v" else rope(y, at))
        q, k, v = (torch.cat(parts, 1) for parts in (q, k, v))
        scores = torch.einsum("btnh,bsgh->bnts", q, k) * config.vlm.head_dim**-0.5
        weights = scores.masked_fill(~mask[:, None], -1e30).softmax(-1)
        out = torch.einsum("bnts,bsgh->btnh", weights, v).flatten(2).split(counts, 1)
        for (name, x), o in zip(list(streams.items()), out, strict=True):
            layer = f"joint_model.mixtures.{name}.layers.{index}."
            x = x + F.linear(o, w[layer + "self_attn.o_proj.weight"])
            h = rms(x, w[layer + "post_attention_layernorm.weight"])
            gate = F.gelu(F.linear(h, w[layer + "mlp.gate_proj.weight"]), approximate="tanh")
            h = gate * F.linear(h, w[layer + "mlp.up_proj.weight"])
            streams[name] = x + F.linear(h, w[layer + "mlp.down_proj.weight"])
    final = rms(streams["action"], w["joint_model.mixtures.action.norm.weight"])
    return affine("action_decoder", final)


@torch.no_grad()
def test_velocities_are_theirs(config, theirs):
    model = build(config, 0).eval()
    restoring.start_from(model, from_open_pi_zero(theirs, config))
    inputs = observation(config)
    torch.manual_seed(1)
    actions, time = torch.randn(3, config.chunk, 7), torch.rand(3)
    our_velocity = model.velocity(model.context(inputs), actions, time, inputs.proprio_BP)
    features = model.projector(model.see(inputs))
    assert torch.allclose(
        our_velocity, velocity(theirs, config, features, inputs, actions, time), atol=2e-5
    )
    swapped = dict(theirs)
    name = "action_encoder.linear_2.weight"
    swapped[name] = theirs[name].roll(32, dims=1)
    other = velocity(swapped, config, features, inputs, actions, time)
    assert not torch.allclose(
        our_velocity, other, atol=1e-2
    )  # the comparison sees the order of time


def test_a_file_is_read_and_named_in_errors(config, theirs, tmp_path):
    path = tmp_path / "bridge_beta.pt"
    compiled = {f"_orig_mod.{name}": tensor.bfloat16() for name, tensor in theirs.items()}
    torch.save({"cnt_update": 7, "wandb_id": "x", "model": compiled}, path)
    weights = pretrained(str(path), config)
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    expected = from_open_pi_zero(theirs, config)
    assert weights.keys() == expected.keys()
    assert all(torch.allclose(weights[n], expected[n], rtol=1e-2, atol=1e-2) for n in weights)
    assert {name.split(".")[0] for name in build(config, 0).state_dict()} == {
        name.split(".")[0] for name in weights
    }
    path.write_bytes(b"torn")
    with pytest.raises(WeightsError, match="cannot be read"):
        pretrained(str(path), config)
    torch.save({"weights": compiled}, path)
    with pytest.raises(WeightsError, match="has no `model`"):
        pretrained(str(path), config)


def test_what_this_model_has_not_is_refused(config, theirs):
    for extra, message in (
        ("joint_model.mixtures.vlm.layers.0.self_attn.q_proj.lora_a", "adapters"),
        ("joint_model.mixtures.action.norm.to_gamma.0.weight", "adaLN"),
    ):
        with pytest.raises(WeightsError, match=message):
            from_open_pi_zero({**theirs, extra: torch.zeros(1)}, config)
    del theirs["action_encoder.linear_3.bias"]
    with pytest.raises(WeightsError, match=r"no tensor action_encoder.linear_3.bias"):
        from_open_pi_zero(theirs, config)
