"""Makes tests/data/before with the depthtok that is installed: see the README there."""

import sys
from pathlib import Path

import numpy as np

from depthtok.sources.features import Feature
from depthtok.sources.write import RldsWriter

OUT = Path(sys.argv[1])
OB = "steps/observation/"
SIDE, STEPS = 32, 12


def features():
    features_found = [
        Feature(OB + "image", "image", "uint8", (SIDE, SIDE, 3), "jpeg"),
        Feature(OB + "wrist", "image", "uint8", (SIDE, SIDE, 3), "jpeg"),
        Feature(OB + "depth", "image", "uint16", (SIDE, SIDE, 1), "png"),
        Feature(OB + "state", "tensor", "float32", (8,), "none"),
        Feature("steps/action", "tensor", "float32", (7,), "none"),
        Feature("steps/language_instruction", "text", "str"),
        Feature("steps/is_first", "scalar", "bool", (), "none"),
    ]
    return {f.path: f for f in features_found}


def episode(number):
    rng = np.random.default_rng(number)
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    images, wrist, depth = [], [], []
    for t in range(STEPS):
        base = np.stack([x * 6, y * 6, (x + y) * 3], -1).astype(np.uint8)
        base[10:18, 2 * t : 2 * t + 8] = (200, 40 * (number + 1), 30)
        images.append(base)
        wrist.append(base[::-1].copy())
        d = (800 + 20 * y + 3 * x).astype(np.uint16)
        d[10:18, 2 * t : 2 * t + 8] = 600 + 10 * number
        d[0, 0] = 0
        depth.append(d[..., None])
    grip = (np.arange(STEPS) > 5).astype(np.float32)[:, None]
    move = rng.uniform(-1, 1, (STEPS, 6))
    return {
        OB + "image": images,
        OB + "wrist": wrist,
        OB + "depth": depth,
        OB + "state": rng.normal(size=(STEPS, 8)).astype(np.float32),
        "steps/action": np.hstack([move, grip]).astype(np.float32),
        "steps/language_instruction": [("pick up the cup", "open the drawer")[number % 2]] * STEPS,
        "steps/is_first": np.arange(STEPS) == 0,
    }


writer = RldsWriter(OUT / "rlds" / "1.0.0", "before_set", "1.0.0", features())
writer.write("train", (episode(n) for n in range(6)), 3)
writer.finish()
(OUT / "schema.toml").write_text("""datasets = ["before_set"]
status = "verified"
fps = 10.0
instruction = "steps/language_instruction"
gripper = "open1_closed0"

[[camera]]
name = "image"
key = "steps/observation/image"
orientation = "identity"
depth_key = "steps/observation/depth"
depth_unit = "mm"

[[camera]]
name = "wrist"
key = "steps/observation/wrist"
orientation = "identity"

[[action]]
from = "steps/action"
dims = ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]

[[proprio]]
from = "steps/observation/state"
dims = ["a", "b", "c", "d", "e", "f", "g", "h"]
""")
(OUT / "vqvae.toml").write_text("""normalisation = "clip_quantile"

[network]
size = 64
width = 8
decoder_width = 8

[training]
steps = 20
batch = 4
held_out = 0.2
crop = 64

[quantizer]
warmup = 5
""")
(OUT / "micro.toml").write_text(
    """base = "tiny"
[model]
chunk = 2
[model.vision]
image_size = 16
patch = 2
width = 16
layers = 1
mlp = 16
"""
    + "".join(
        f"[model.{name}]\nwidth = 16\nmlp = 16\nlayers = 2\nheads = 2\nhead_dim = 8\n"
        for name in ("vlm", "action", "depth_expert")
    )
)
