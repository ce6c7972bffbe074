"""A simulated episode as RLDS: the features, and the values of one episode.

The arrangement is that of the LIBERO data sets in RLDS format, plus depth, segmentation and
cameras; widths, and what the numbers mean, are those of the benchmark (`EpisodeLayout`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from jaxtyping import Float32, Float64, UInt16

from depthtok.sources.features import Feature
from depthtok.sources.pixels import encode_image
from pipelines.sim.benchmark import EpisodeLayout
from pipelines.sim.motion import Motion
from pipelines.sim.perturb import Ranges
from pipelines.sim.simulator import CLASSES, Simulator

FARTHEST_M = 65.535  # the limit of uint16 millimetres; farther is 0, which means unknown
SAMPLED = -1  # init_state_index of an episode with sampled placements

_CLASSES = ", ".join(f"{number} {name}" for number, name in enumerate(CLASSES))
_WRIST = "Wrist camera at this step, as camera_to_world."
_STEP: tuple[tuple[str, str, tuple[int, ...], str], ...] = (
    ("discount", "float32", (), "Always 1."),
    ("is_first", "bool", (), "True on the first step."),
    ("is_last", "bool", (), "True on the last step."),
    ("is_terminal", "bool", (), "True on the last step."),
    ("observation/wrist_camera_to_world", "float32", (16,), _WRIST),
    ("reward", "float32", (), "1 on the last step of a success, else 0."),
)
_PICTURES = (
    ("depth", "uint16", 1, "png", "True z-depth of `image` in millimetres; 0 is unknown."),
    ("segmentation", "uint8", 1, "png", f"What `image` shows: {_CLASSES}."),
    ("wrist_depth", "uint16", 1, "png", "True z-depth of `wrist_image` in millimetres."),
)
_POSE = "Main camera, 4x4 row-major, m, axes x right, y down, z forward, upright true view."
_EPISODE: tuple[tuple[str, str, tuple[int, ...], str], ...] = (
    ("action_noise", "float32", (), "Standard deviation of the noise on the xyz action."),
    ("camera_intrinsics", "float32", (9,), "Main camera, 3x3 row-major, px, upright true view."),
    ("camera_to_world", "float32", (16,), _POSE),
    ("env_seed", "int32", (), "Seed of the placements."),
    ("init_state_index", "int32", (), "Official initial state; -1 where placements were drawn."),
    ("success", "bool", (), "Whether the benchmark's own check passed on the last step."),
    ("task_id", "int32", (), "Number of the task in its suite."),
    ("wrist_camera_intrinsics", "float32", (9,), "Wrist camera, as camera_intrinsics."),
    ("zfar", "float32", (), "Farthest depth that is drawn (m)."),
    ("znear", "float32", (), "Nearest depth that is drawn (m)."),
)
_TEXTS = (
    ("file_path", "Suite, task, start and seed: a label, not a file."),
    ("suite", "Suite of tasks."),
    ("task_name", "Name of the task."),
)


@cache
def features(size: int, layout: EpisodeLayout) -> Mapping[str, Feature]:
    """The features of a data set with `size` px square images, by path, sorted."""
    robot = (
        ("action", layout.action),
        ("observation/state", layout.state),
        ("observation/joint_state", layout.joints),
    )
    steps = [*_STEP, *((name, "float32", (width,), about) for name, (width, about) in robot)]
    views = (("image", layout.image), ("wrist_image", layout.wrist_image))
    pictures = [*_PICTURES, *((name, "uint8", 3, "jpeg", about) for name, about in views)]
    declared = [Feature("steps/language_instruction", "text", "str", description="Instruction.")]
    for group, rows, per_step in (("steps", steps, True), ("episode_metadata", _EPISODE, False)):
        for name, dtype, shape, about in rows:
            path, kind = f"{group}/{name}", "tensor" if shape else "scalar"
            declared.append(Feature(path, kind, dtype, shape, "none", per_step, about))
    for name, dtype, channels, encoding, about in pictures:
        path, pixels = f"steps/observation/{name}", (size, size, channels)
        declared.append(Feature(path, "image", dtype, pixels, encoding, True, about))
    for name, about in _TEXTS:
        path = f"episode_metadata/{name}"
        declared.append(Feature(path, "text", "str", per_step=False, description=about))
    return {feature.path: feature for feature in sorted(declared, key=lambda item: item.path)}


@dataclass(frozen=True)
class EpisodeOrigin:
    """The origin of an episode; `label` is added to suite and task."""

    label: str
    seed: int = 0
    init_state: int | None = None  # official number
    noise: float = 0.0


def variations(simulator: Simulator, ranges: Ranges, seed: int, count: int) -> Iterator[str]:
    """Takes the simulator through the views that belong to an episode's seed, and says for its
    label what is varied; "" without ranges."""
    for number in range(count):
        if not ranges:
            yield ""
            continue
        variation = replace(simulator.task.variation, view=ranges.draw_view(seed, number))
        simulator.vary(replace(simulator.task, variation=variation))
        yield f"_{variation.name.replace(', ', '_').replace(' ', '-')}"


def film(
    simulator: Simulator, motion: Motion, origin: EpisodeOrigin, layout: EpisodeLayout
) -> dict[str, object]:
    """The episode's values by path, with its states rendered one by one.

    The fixtures must be placed as in the motion: no reset with another seed in between.
    """
    declared = features(simulator.size, layout)
    pictures: dict[str, list[bytes]] = {
        path: [] for path, feature in declared.items() if feature.kind == "image"
    }
    proprio, joints, poses = [], [], []
    for state in motion.states:
        simulator.restore(state)
        proprio.append(simulator.proprio())
        joints.append(simulator.joints())
        poses.append(_flat(simulator.lens("wrist_image").to_world))
        for path, pixels in _look(simulator).items():
            pictures[path].append(encode_image(pixels, declared[path]))
    steps = np.arange(len(motion))
    is_last = steps == len(motion) - 1
    return {
        **pictures,
        "steps/observation/state": np.array(proprio),
        "steps/observation/joint_state": np.array(joints),
        "steps/observation/wrist_camera_to_world": np.array(poses),
        "steps/action": motion.actions,
        "steps/discount": np.ones(len(motion), np.float32),
        "steps/reward": (is_last & motion.success).astype(np.float32),
        "steps/is_first": steps == 0,
        "steps/is_last": is_last,
        "steps/is_terminal": is_last,
        "steps/language_instruction": [simulator.task.instruction] * len(motion),
        **_about(simulator, motion, origin),
    }


def _look(simulator: Simulator) -> dict[str, np.ndarray]:
    """What both cameras see, as images [H, W, C] by path."""
    main = simulator.render("image", segmentation=True)
    wrist = simulator.render("wrist_image")
    if main.segmentation is None:
        raise ValueError("the simulator has rendered no segmentation")
    return {
        "steps/observation/image": main.rgb,
        "steps/observation/depth": millimetres(main.depth_m)[..., None],
        "steps/observation/segmentation": main.segmentation[..., None],
        "steps/observation/wrist_image": wrist.rgb,
        "steps/observation/wrist_depth": millimetres(wrist.depth_m)[..., None],
    }


def millimetres(depth_m: Float32[np.ndarray, "*n"]) -> UInt16[np.ndarray, "*n"]:
    """Metres as whole millimetres; anything beyond the range of uint16 becomes 0."""
    near = np.where(depth_m <= FARTHEST_M, depth_m, 0)
    return np.rint(near * 1000).astype(np.uint16)


def _about(simulator: Simulator, motion: Motion, origin: EpisodeOrigin) -> dict[str, object]:
    task, lens = simulator.task, simulator.lens("image")
    near, far = simulator.clip_planes
    values = {
        "action_noise": origin.noise,
        "camera_intrinsics": _flat(lens.intrinsics),
        "camera_to_world": _flat(lens.to_world),
        "env_seed": origin.seed,
        "file_path": f"{task.suite}/{task.name}/{origin.label}",
        "init_state_index": SAMPLED if origin.init_state is None else origin.init_state,
        "success": motion.success,
        "suite": task.suite,
        "task_id": task.number,
        "task_name": task.name,
        "wrist_camera_intrinsics": _flat(simulator.lens("wrist_image").intrinsics),
        "zfar": far,
        "znear": near,
    }
    return {f"episode_metadata/{name}": value for name, value in values.items()}


def _flat(matrix: Float64[np.ndarray, "n n"]) -> Float32[np.ndarray, " m"]:
    return matrix.astype(np.float32).ravel()
