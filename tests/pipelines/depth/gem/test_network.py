"""The network against reference outputs made with the official implementation in float32."""

import hashlib
import re

import numpy as np
import pytest
import torch

from pipelines.depth.gem.config import GEM_CONFIGS
from pipelines.depth.gem.network import GemDepth, slot_code
from pipelines.depth.gem.pose import Pose
from pipelines.depth.gem.tensors import POSE, UNUSED, used
from tests.pipelines.depth.gem.made import config_of, loaded
from tests.pipelines.depth.vida import recipe

FORWARDS = [
    "on_t32_70x70",
    "off_t32_70x70",
    "on_t8_70x98",
    "off_t8_70x98",
    "on_t1_56x56",
    "on_t3_42x70",
]
SHRUNK = ["on_t8_70x98_shrink", "off_t8_70x98_shrink"]
SHOWN = [0, 5, 31]  # frames of the stages
STAGE = 3e-5


def window(case):
    """The input of a reference case, from its name."""
    frames, height, width = map(int, re.findall(r"\d+", case)[:3])
    return torch.from_numpy(recipe.normalise(recipe.clip(frames, height, width, seed=1)))[None]


def activated(poses):
    """An estimate after what makes its angles positive."""
    return torch.cat((poses[..., :7], poses[..., 7:].relu()), dim=-1)


def require_forward(network, case, reference):
    """Depth, its statistics over all pixels, and poses."""
    poses = []
    if network.pose:
        hook = network.camera_head.register_forward_hook(lambda *out: poses.append(out[-1][-1]))
    images = window(case)
    with torch.inference_mode():
        depth = network(images)[0].numpy()
    step = -(-images.shape[-2] // reference[case].shape[1])
    assert np.abs(depth[:, ::step, ::step] - reference[case]).max() < 1e-5
    if f"{case}_stats" in reference:
        exact = depth.astype(np.float64)
        statistics = [getattr(exact, name)((1, 2)) for name in ("mean", "std", "min", "max")]
        assert np.abs(np.stack(statistics, -1) - reference[f"{case}_stats"]).max() < 1e-5
    if network.pose:
        hook.remove()
        assert np.abs(activated(poses[0][0]).numpy() - reference[f"{case}_pose"]).max() < 1e-5


def test_weights_are_those_of_the_reference(golden, weights):
    digest = hashlib.sha256()
    for key in sorted(weights):
        if not key.endswith(".pe"):
            digest.update(weights[key].numpy().tobytes())
    assert digest.hexdigest() == golden("weights.json")["vits"]["sha256"]


@pytest.mark.parametrize("vida", ["vits", "vitl"])
@pytest.mark.parametrize("pose", [True, False])
def test_state_dict_is_what_is_used_of_the_official_one(golden, vida, pose):
    """The larger one has 66 tensors without effect; without poses 241 million numbers fewer."""
    schema = golden(f"schema_{vida}.json")
    config = config_of(vida, pose=pose)
    with torch.device("meta"):
        network = GemDepth(config)
    names = used(schema, config)
    assert len([name for name in schema if UNUSED.match(name)]) == 66
    assert {k: list(v.shape) for k, v in network.state_dict().items()} == {
        name: schema[name] for name in names
    }
    if vida == "vitl":
        numbers = sum(np.prod(schema[name], dtype=int) for name in names)
        rest = sum(np.prod(schema[name], dtype=int) for name in filter(POSE.match, names))
        if pose:
            assert numbers == 677_219_155
            assert round(rest / 1e6) == 241
        else:
            assert rest == 0


def test_the_published_one_is_the_official_configuration():
    gem = GEM_CONFIGS["gemdepth"]
    assert vars(gem) == vars(config_of("vitl")) | {"name": "gemdepth"}


@pytest.mark.parametrize("case", FORWARDS)
def test_forward_equals_the_reference(golden, networks, case):
    require_forward(networks[case.split("_")[0]], case, golden("forward_vits.npz"))


@pytest.mark.parametrize("case", SHRUNK)
def test_forward_shows_the_epsilon_of_the_norms(golden, weights, case):
    config = config_of("vits", pose=case.startswith("on"))
    require_forward(
        loaded(config, recipe.shrink(weights, recipe.ALL_NORMS)), case, golden("forward_vits.npz")
    )


def test_the_official_configuration_equals_the_reference(golden):
    weights = recipe.state_dict(golden("schema_vitl.json"), seed=4)
    for variant in ("on", "off"):
        network = GemDepth(config_of("vitl", pose=variant == "on")).eval()
        state = {key: weights[key] for key in used(weights, network.config)}
        network.load_state_dict(state, strict=True, assign=True)
        require_forward(network, f"{variant}_t3_42x42", golden("forward_vitl.npz"))


@pytest.fixture(scope="module")
def stages(networks):
    """What passes between the parts of the network, of the case of the stages."""
    network, outputs = networks["on"], {}
    hooks = [
        blocks[index].register_forward_hook(
            lambda _, __, out, name=name, index=index: outputs.__setitem__(f"{name}{index}", out)
        )
        for name, blocks in (
            ("spatial", network.spatial_blocks),
            ("time", network.time_blocks),
            ("frame", network.frame_blocks),
            ("global", network.global_blocks),
        )
        for index in range(len(blocks))
    ]
    with torch.inference_mode():
        tokens = network.encode(window("t32_70x70")[0]).level4[None]
        cameras = network.cameras(tokens, 5)
        estimates = network.camera_head(cameras)
        pose = Pose.relative(estimates[-1])
        embedded = network.embedded(tokens, 5)
        network.alternate(embedded, 5)
        stages = {
            "camera_tokens": cameras[0],
            "pose_iterations": activated(torch.stack(estimates)[:, 0]),
            "relative_quaternion": pose.quaternion[0],
            "scaled_translation": pose.translation[0],
            "log_scale": (pose.scale + 1e-8).log()[0],
            "embedding_rotation": network.cam_rot_encoder(pose.quaternion)[0, SHOWN],
            "embedding_translation": network.cam_trans_encoder(pose.translation)[0, SHOWN],
            "embedding_scale": network.cam_trans_scale_encoder((pose.scale + 1e-8).log())[0],
            "tap3": tokens[0, SHOWN, ::6],
            "frame_block": outputs["frame0"].unflatten(0, (-1, 32))[0, SHOWN][:, [0, 1, 5, 17, 29]],
            "global_block": outputs["global0"][0, SHOWN][:, None],
            "dec_norm": network.normed(embedded)[0, SHOWN, ::6],
            "index_embedding": slot_code(32, 384, torch.device("cpu"))[SHOWN],
        }
    for hook in hooks:
        hook.remove()
    stages["astt_input"] = stages["dec_norm"] + stages["index_embedding"][:, None]
    for index in range(2):
        spatial, time = outputs[f"spatial{index}"], outputs[f"time{index}"]
        stages[f"spatial{index}"] = spatial.unflatten(1, (32, 25))[0, SHOWN, ::6]
        stages[f"time{index}"] = time.transpose(0, 1)[SHOWN, ::6]
    return {name: values.numpy() for name, values in stages.items()}


def test_every_stage_equals_the_reference(golden, stages):
    reference = golden("stages_vits.npz")
    assert stages.keys() == set(reference)
    for name, values in stages.items():
        assert values.shape == reference[name].shape, name
        assert np.abs(values - reference[name]).max() < STAGE, name


def test_mixing_returns_the_slots_asked_for(networks):
    with torch.inference_mode():
        pyramid = networks["on"].encode(window("t8_70x98")[0])
        coarse = (pyramid.level3[None], pyramid.level4[None])
        everything = networks["on"].mix(*coarse)
        some = networks["on"].mix(*coarse, [1, 5])
    torch.testing.assert_close(some, everything[:, [1, 5]], rtol=0, atol=1e-5)


def test_windows_of_a_batch_are_strangers(networks):
    """Upstream repeats scales of a batch in the wrong order."""
    images = torch.cat((window("t3_42x70"), window("t3_42x70").flip(1, 3)))
    for network in networks.values():
        with torch.inference_mode():
            together = network(images)
            alone = torch.cat([network(images[:1]), network(images[1:])])
        torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
