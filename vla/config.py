"""The settings of a QDepth-VLA model, its data and its training. Standard library only.

A configuration is frozen; `vla/named_configs.py` reads it from presets and files, and
`vla/run_options.py` says how a training runs. In the presets,
values taken from the paper name its section; values that the paper leaves open are fields here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from depthtok.config import from_mapping, merged, nested
from depthtok.required import at_least, fulfilled, one_of

MASKS = ("qdepth", "text-sees-image", "image-sees-text", "prefix", "causal")  # vla/model/masks.py


@dataclass(frozen=True)
class VisionConfig:
    """A SigLIP image encoder. It outputs one token per patch."""

    image_size: Annotated[int, "side of the square input image, px"] = 224
    patch: Annotated[int, "side of a patch, px"] = 14
    width: Annotated[int, "hidden size"] = 1152
    layers: Annotated[int, "transformer layers"] = 27
    heads: Annotated[int, "attention heads"] = 16
    mlp: Annotated[int, "hidden size of the MLP"] = 4304

    def __post_init__(self) -> None:
        at_least(1, self, "image_size patch width layers heads mlp", "vision.")
        fulfilled(
            self.image_size % self.patch == 0,
            f"vision.image_size {self.image_size} is not a multiple of vision.patch {self.patch}",
        )
        fulfilled(
            self.width % self.heads == 0,
            f"vision.width {self.width} is not a multiple of vision.heads {self.heads}",
        )

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch


@dataclass(frozen=True)
class ExpertConfig:
    """One Gemma stack. All experts have the same `layers`, `heads`, `kv_heads` and `head_dim`,
    because they attend to each other's keys and values layer by layer."""

    width: Annotated[int, "hidden size"] = 1024
    mlp: Annotated[int, "hidden size of the MLP"] = 4096
    layers: Annotated[int, "transformer layers"] = 18
    heads: Annotated[int, "query heads"] = 8
    kv_heads: Annotated[int, "key/value heads"] = 1
    head_dim: Annotated[int, "size of a head; must be even for RoPE"] = 256
    rope_theta: Annotated[float, "base of the RoPE frequencies"] = 10_000.0

    def __post_init__(self) -> None:
        at_least(1, self, "width mlp layers heads kv_heads head_dim")
        fulfilled(
            self.heads % self.kv_heads == 0,
            f"{self.heads} query heads cannot share {self.kv_heads} key/value heads",
        )
        fulfilled(self.head_dim % 2 == 0, f"head_dim {self.head_dim} is odd; RoPE needs it even")

    @property
    def shared(self) -> tuple[int, int, int, int]:
        """The sizes that must be equal in all experts."""
        return self.layers, self.heads, self.kv_heads, self.head_dim


@dataclass(frozen=True)
class DepthConfig:
    """The depth branch: what it predicts, and how (see the paper's section on the depth expert)."""

    expert: Annotated[bool, "whether there is a depth branch at all"] = True
    target: Annotated[
        str, "codes, latents, pixels; none (no loss); or input (no loss; actions see true codes)"
    ] = "codes"
    head: Annotated[str, "distance (-|x - c|^2 * s to each code, eq. 3) or linear"] = "distance"
    temperature: Annotated[float, "fixed tau of eq. 3; 0: learnt, from a loss near ln K"] = 0.0
    target_odds: Annotated[float, "nats of a soft target over its nearest code; 0: hard"] = 0.0
    prior: Annotated[bool, "add log p(code | position) of the data to the logits"] = False
    future: Annotated[int, "predict the codes of the frame this many steps ahead"] = 0
    codes: Annotated[int, "codebook size K"] = 256
    code_dim: Annotated[int, "size D of a code vector"] = 160
    grid: Annotated[int, "codes along one side of the grid"] = 16
    cameras: Annotated[int, "how many cameras have codes: the first n"] = 1
    detach_prefix: Annotated[bool, "stop the depth gradient at Gemma's keys and values"] = False

    def __post_init__(self) -> None:
        one_of("depth.target", self.target, ("codes", "latents", "pixels", "none", "input"))
        one_of("depth.head", self.head, ("distance", "linear"))
        fulfilled(
            not self.prior or self.target == "codes",
            f"depth.prior needs depth.target = 'codes', not {self.target!r}",
        )
        fulfilled(self.future >= 0, f"depth.future = {self.future}, but must not be negative")
        at_least(0, self, "temperature target_odds", "depth.")
        at_least(1, self, "cameras", "depth.")

    @property
    def supervised(self) -> bool:
        """Whether there is a depth loss."""
        return self.uses_depth and self.target != "input"

    @property
    def uses_depth(self) -> bool:
        """Whether samples have depth: to predict, or as an input."""
        return self.expert and self.target != "none"


@dataclass(frozen=True)
class FlowConfig:
    """Conditional flow matching of the action chunk. Time 1 is data, time 0 is noise."""

    sampling: Annotated[
        str, "training times: beta (t = 0.999 (1 - z), z ~ Beta(1.5, 1)) or uniform"
    ] = "beta"
    sigma_min: Annotated[float, "noise left at t = 1"] = 0.001
    euler_steps: Annotated[int, "Euler steps when sampling actions"] = 10
    time_period: Annotated[float, "longest period of the time embedding, over 2 pi"] = 100.0
    clip: Annotated[float, "clip final actions to [-clip, clip]; 0: never"] = 1.0

    def __post_init__(self) -> None:
        one_of("flow.sampling", self.sampling, ("beta", "uniform"))
        at_least(0, self, "clip", "flow.")
        at_least(1, self, "euler_steps", "flow.")


@dataclass(frozen=True)
class ModelConfig:
    """The architecture: image encoder, language model, depth and action experts, and how they
    attend to each other."""

    vision: Annotated[VisionConfig, "SigLIP"] = VisionConfig()
    vlm: Annotated[ExpertConfig, "Gemma, the language model"] = ExpertConfig(width=2048, mlp=16_384)
    action: Annotated[ExpertConfig, "the action expert"] = ExpertConfig()
    depth_expert: Annotated[ExpertConfig, "the depth expert"] = ExpertConfig()
    depth: Annotated[DepthConfig, "the depth branch's target and head"] = DepthConfig()
    flow: Annotated[FlowConfig, "flow matching of the actions"] = FlowConfig()
    mask: Annotated[str, "attention mask: qdepth, prefix, causal, ..."] = "qdepth"
    action_sees_depth: Annotated[
        bool, "actions attend to depth tokens; if not, inference skips the depth expert"
    ] = True
    vocabulary: Annotated[int, "rows of the token embedding"] = 257_216
    max_text: Annotated[int, "text tokens, including <bos> and the closing newline"] = 48
    cameras: Annotated[int, "cameras that the model sees"] = 1
    action_dim: Annotated[int, "numbers in an action"] = 7
    proprio_dim: Annotated[int, "numbers of proprioception; 0: no proprio token"] = 8
    chunk: Annotated[int, "actions predicted at once"] = 4

    def __post_init__(self) -> None:
        one_of("mask", self.mask, MASKS)
        experts = (("action", self.action), ("depth_expert", self.depth_expert))
        for name, expert in experts if self.depth.expert else experts[:1]:
            fulfilled(
                expert.shared == self.vlm.shared,
                f"{name} has (layers, heads, kv_heads, head_dim) = {expert.shared},"
                f" vlm has {self.vlm.shared}",
                "experts attend to each other's keys and values: make them equal",
            )
        fulfilled(
            self.depth.target != "input" or (self.action_sees_depth and not self.depth.future),
            "depth.target = 'input' needs action_sees_depth, and depth.future = 0",
        )
        fulfilled(
            not self.depth.expert or self.depth.cameras <= self.cameras,
            f"depth.cameras = {self.depth.cameras}, but the model sees {self.cameras}",
        )
        fulfilled(
            not self.depth.expert or self.depth.grid % self.vision.grid == 0,
            f"a {self.depth.grid}x{self.depth.grid} code grid does not divide into"
            f" {self.vision.grid}x{self.vision.grid} image tokens",
            "choose vision.image_size / vision.patch so that it divides depth.grid",
        )
        at_least(1, self, "chunk action_dim", "model.")
        at_least(2, self, "max_text", "model.")


@dataclass(frozen=True)
class DataConfig:
    """What a training sample is made of: cameras, normalisation, augmentation, tokenizer."""

    cameras: Annotated[
        tuple[str, ...], "camera names, in the model's order; those with codes first"
    ] = ()
    action_norm: Annotated[
        str, "bounds (min..max to -1..1) or q99 (1 % to 99 % quantiles to -1..1)"
    ] = "bounds"
    proprio_norm: Annotated[str, "the same for proprioception: bounds or q99"] = "bounds"
    photometric: Annotated[float, "strength of brightness, contrast and saturation jitter"] = 0.0
    crop: Annotated[
        float, "smallest area of a random crop, as a share; its depth is re-encoded; 1: no crops"
    ] = 1.0
    tokenizer: Annotated[
        str,
        "auto (that of the weights; without weights bytes, if model.vocabulary is that of bytes), "
        "bytes, the path of a tokenizer.json, or a name on the Hub",
    ] = "auto"
    instruction: Annotated[
        str, "of several texts for one step, where the data keep them: draw one anew, or the first"
    ] = "draw"
    equal_prompts: Annotated[
        str, "distinct instructions that become one prompt, cut to model.max_text: refuse or allow"
    ] = "refuse"
    empty_instructions: Annotated[
        str, "episodes without any instruction: keep, or drop (not trained on, not validated on)"
    ] = "keep"
    depth_codes: Annotated[str, "which codes teach: true, shuffled, same-step, random"] = "true"
    demonstrations: Annotated[int, "episodes of each data set to learn from; 0: all"] = 0
    gripper: Annotated[
        str, "convert the gripper of every data set to this convention, e.g. open1_closed0"
    ] = ""
    mix: Annotated[
        tuple[str, ...], "what may differ between data sets: gripper, fps, action.names, ..."
    ] = ()

    def __post_init__(self) -> None:
        if self.gripper or self.mix:  # imported only then: help stays instant
            from depthtok.stores.agreement import require_aspects, require_gripper

            require_aspects(self.mix, "data.mix")
            require_gripper(self.gripper or "open1_closed0", "data.gripper")
        for name in ("action_norm", "proprio_norm"):
            one_of(name, getattr(self, name), ("bounds", "q99"))
        one_of("data.depth_codes", self.depth_codes, ("true", "shuffled", "same-step", "random"))
        at_least(0, self, "demonstrations", "data.")
        one_of("data.equal_prompts", self.equal_prompts, ("refuse", "allow"))
        one_of("data.empty_instructions", self.empty_instructions, ("keep", "drop"))
        one_of("data.instruction", self.instruction, ("draw", "first"))
        once = len({*self.cameras}) == len(self.cameras)
        fulfilled(once, f"data.cameras has a duplicate: {', '.join(self.cameras)}")
        fulfilled(0 < self.crop <= 1, f"data.crop = {self.crop}, but must be in (0, 1]")
        fulfilled(
            0 <= self.photometric < 1,
            f"data.photometric = {self.photometric}, but must be in [0, 1)",
        )


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation. `batch` is the global batch: over all ranks and accumulation steps."""

    steps: Annotated[int, "optimiser steps"] = 19_000
    batch: Annotated[int, "samples per step, over all ranks and micro-batches"] = 1024
    optimizer: Annotated[
        str, "adamw, or adamw8bit: 8-bit moments (not with fsdp; extra `eightbit`)"
    ] = "adamw"
    lr: Annotated[float, "peak learning rate"] = 5e-5
    vlm_lr: Annotated[float, "peak learning rate of SigLIP, projector and Gemma; 0: `lr`"] = 0.0
    scale_lr: Annotated[float, "learning rate of the depth head's learnable scale"] = 1e-3
    schedule: Annotated[str, "after the warm-up: cosine (to `lr_end`) or constant"] = "cosine"
    warmup: Annotated[int, "steps of linear warm-up"] = 200
    lr_end: Annotated[float, "learning rate at the last step, as a share of the peak"] = 0.0
    weight_decay: Annotated[float, "AdamW's weight decay"] = 0.0
    betas: Annotated[tuple[float, float], "AdamW's betas"] = (0.9, 0.95)
    clip: Annotated[float, "largest global gradient norm; 0: no clipping"] = 1.0
    depth_weight: Annotated[float, "initial weight of the depth loss, lambda_0"] = 0.01
    depth_decay: Annotated[float, "decay of the depth weight per step, gamma"] = 0.9999
    depth_schedule: Annotated[
        str, "depth weight: exponential (lambda_0 gamma^t), constant or cosine (to 0)"
    ] = "exponential"
    ema: Annotated[float, "decay per step of the weights' moving average; 0: none"] = 0.0
    precision: Annotated[str, "of activations and products: fp32, bf16; weights: fp32"] = "fp32"
    fast: Annotated[bool, "the arithmetic in an order that suits GPUs; last bits differ"] = False
    fast_cpu: Annotated[bool, "the same for CPUs; see docs/model.md"] = False
    deterministic: Annotated[
        bool, "two runs of one seed are equal to the bit on CUDA, too; slower there"
    ] = False
    freeze: Annotated[
        tuple[str, ...], "parts that are not trained: embed, vision, projector, vlm"
    ] = ("embed",)
    lora_rank: Annotated[int, "rank of the LoRA adapters; 0: none"] = 0
    lora_alpha: Annotated[float, "alpha of the LoRA adapters"] = 16.0
    seed: Annotated[int, "random seed"] = 0

    def __post_init__(self) -> None:
        one_of("train.schedule", self.schedule, ("cosine", "constant"))
        one_of("train.depth_schedule", self.depth_schedule, ("exponential", "constant", "cosine"))
        one_of("train.optimizer", self.optimizer, ("adamw", "adamw8bit"))
        one_of("train.precision", self.precision, ("fp32", "bf16"))
        for part in self.freeze:
            one_of("train.freeze", part, ("embed", "vision", "projector", "vlm"))
        at_least(1, self, "steps batch", "train.")
        at_least(0, self, "lr vlm_lr scale_lr clip depth_weight lora_rank seed", "train.")
        fulfilled(0 <= self.ema < 1, f"train.ema = {self.ema}, but must be in [0, 1)")


@dataclass(frozen=True)
class Config:
    """Everything that decides what a training learns."""

    model: Annotated[ModelConfig, "the architecture"] = ModelConfig()
    data: Annotated[DataConfig, "the training samples"] = DataConfig()
    train: Annotated[TrainConfig, "the optimisation"] = TrainConfig()
    name: Annotated[str, "name of the configuration, for reports"] = ""

    def __post_init__(self) -> None:
        fulfilled(
            not self.data.cameras or len(self.data.cameras) == self.model.cameras,
            f"data.cameras has {len(self.data.cameras)} names, but model.cameras is"
            f" {self.model.cameras}",
        )

    def to_json(self) -> dict:
        """All settings as plain JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Config:
        """The inverse of `to_json`. Raises `ConfigError` for unknown names."""
        return from_mapping(cls, data, "settings")

    def updated(self, overrides: Mapping[str, Any]) -> Config:
        """A copy with dotted names set: `config.updated({"train.lr": 1e-4})`."""
        return Config.from_json(merged(self.to_json(), nested(overrides)))
