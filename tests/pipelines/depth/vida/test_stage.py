"""Video-Depth-Anything through the real stage and the real command line."""

import pickle
import resource

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from depthtok.cli.main import app
from depthtok.errors import WeightsError
from depthtok.stores.depth import DepthStore
from depthtok.testing import make_rlds
from pipelines.depth.vida.config import CONFIGS, RunConfig
from pipelines.depth.vida.infer import estimate
from pipelines.depth.vida.network import VideoDepth
from pipelines.depth.vida.runner import Runner
from tests.pipelines.depth.vida import recipe
from tests.pipelines.depth.vida.made import MemoryClip, tiny_network


def annotate(*arguments, code=0):
    result = CliRunner().invoke(app, ["annotate", *map(str, arguments)], catch_exceptions=True)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output


def spoiled(number, values):
    """Episode 0: black. 1: white, then a picture. 2: a corrupt frame. 3: only one colour. 4, 5: as
    they were. Nothing is seen in 0 and 3: their only camera is absent."""
    images = values["steps/observation/image"]
    if number in (0, 3):
        values["steps/observation/image"] = np.full_like(images, 90 * (number == 3))
    if number == 1:
        values["steps/observation/image"] = [np.full_like(images[0], 255), *images[1:]]
    if number == 2:
        values["steps/observation/image"] = [
            b"\xff\xd8\xff no picture" if step == 2 else image for step, image in enumerate(images)
        ]


def test_bad_frames_give_finite_depth_or_a_recorded_failure(tmp_path):
    rlds = make_rlds(
        tmp_path / "rlds", episodes=6, steps=[1, 2, 4, 3, 25, 1], size=31, shards=1, edit=spoiled
    )
    annotate(
        rlds,
        "--out",
        tmp_path / "depth",
        "--estimator",
        "tiny",
        "--input-size",
        28,
        "--size",
        0,
        "--camera",
        "image",
        code=1,
    )
    store = DepthStore(tmp_path / "depth")
    assert [(f.key.index, "JPEG" in f.reason) for f in store.failures()] == [
        (2, True),
    ]
    assert store.absent_counts() == {"image": 2}
    clips = list(store.clips())
    assert [len(clip) for clip in clips] == [2, 25, 1]
    assert store.size == (31, 31)
    assert all(np.isfinite(clip.read().values).all() for clip in clips)
    assert all(np.isfinite(clip.quantiles).all() for clip in clips)


def test_a_network_of_nan_fills_no_store(tmp_path):
    network = VideoDepth(CONFIGS["tiny"])
    with torch.no_grad():
        network.head.scratch.output_conv2[2].bias.fill_(torch.nan)
    torch.save(network.state_dict(), tmp_path / "nan.pth")
    rlds = make_rlds(tmp_path / "rlds", episodes=2, shards=1)
    annotate(
        rlds,
        "--out",
        tmp_path / "depth",
        "--estimator",
        "tiny",
        "--input-size",
        28,
        "--size",
        16,
        "--weights",
        tmp_path / "nan.pth",
        code=1,
    )
    store = DepthStore(tmp_path / "depth")
    assert list(store.clips()) == []
    assert all("not finite" in failure.reason for failure in store.failures())


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_images_of_other_channels_are_seen_as_rgb(tmp_path, channels):
    (tmp_path / "films" / "one").mkdir(parents=True)
    pixels = recipe.clip(1, 17, 33, seed=1)[0]
    pixels = np.concatenate([pixels, pixels[..., :1]], -1)[..., :channels]
    Image.fromarray(pixels.squeeze()).save(tmp_path / "films" / "one" / "0.png")
    annotate(
        tmp_path / "films",
        "--out",
        tmp_path / "depth",
        "--estimator",
        "tiny",
        "--input-size",
        28,
        "--size",
        0,
    )
    (clip,) = DepthStore(tmp_path / "depth").clips()
    assert clip.read().values.shape == (1, 17, 33)


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A checkpoint of the official format and schema, its weights by recipe."""
    with torch.device("meta"):
        schema = VideoDepth(CONFIGS["vits"]).state_dict()
    state = recipe.state_dict({key: list(value.shape) for key, value in schema.items()}, seed=4)
    path = tmp_path_factory.mktemp("official") / "video_depth_anything_vits.pth"
    torch.save(state, path)
    return path


def test_an_official_checkpoint_annotates(tmp_path, official):
    rlds = make_rlds(tmp_path / "rlds", episodes=1, steps=2, shards=1)
    annotate(
        rlds,
        "--out",
        tmp_path / "depth",
        "--estimator",
        "vits",
        "--weights",
        official,
        "--input-size",
        28,
        "--size",
        16,
        "--camera",
        "image",
        "--limit",
        1,
    )
    (clip,) = DepthStore(tmp_path / "depth").clips()
    assert clip.read().values.std() > 0
    with pytest.raises(WeightsError, match=r"of vits \(by its name .*, not of vitb"):
        annotate(rlds, "--out", tmp_path / "other", "--estimator", "vitb", "--weights", official)


class Payload:
    def __reduce__(self):
        return print, ("code in a checkpoint was run",)


@pytest.mark.parametrize("save", [torch.save, lambda x, p: p.write_bytes(pickle.dumps(x, 2))])
def test_code_in_a_checkpoint_is_refused_by_the_command(tmp_path, capsys, save):
    save({"pretrained.cls_token": Payload()}, tmp_path / "evil.pth")
    rlds = make_rlds(tmp_path / "rlds", episodes=1, shards=1)
    with pytest.raises(WeightsError, match="cannot be read"):
        annotate(
            rlds,
            "--out",
            tmp_path / "depth",
            "--estimator",
            "tiny",
            "--weights",
            tmp_path / "evil.pth",
        )
    assert "was run" not in capsys.readouterr().out
    assert not (tmp_path / "depth").exists()


def test_memory_does_not_grow_with_the_clip():
    """The peak of the process after 60 windows is that after 20, but for a few megabytes."""
    frames = recipe.clip(8, 28, 28, seed=1)
    runner = Runner(tiny_network(), RunConfig(input_size=28), torch.device("cpu"))

    def peak(length):
        clip = MemoryClip(np.broadcast_to(frames[:1], (length, *frames.shape[1:])))
        assert sum(len(block.depth) for block in estimate(runner, [clip])) == length
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    first = peak(440)
    assert peak(1320) < first + 8  # MiB
