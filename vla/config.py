"""The settings of a QDepth-VLA, its data and its training. Standard library only.

A configuration is frozen; `vla/named.py` reads it from presets and files. Numbers that the paper
gives carry its section in the presets; numbers that it leaves open are fields here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from depthtok.config import from_mapping
from depthtok.errors import ConfigError, did_you_mean


def _require(good: bool, problem: str, remedy: str = "") -> None:
    if not good:
        raise ConfigError(problem, remedy=remedy)


def _at_least(least: int, settings: object, names: str, prefix: str = "") -> None:
    for name in names.split():
        value = getattr(settings, name)
        _require(value >= least, f"{prefix}{name} = {value}, but must be {least} or more")


def one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises `ConfigError` for a value that is not among the choices."""
    _require(value in choices, f"{name} = {value!r} is not known", did_you_mean(value, choices))


@dataclass(frozen=True)
class VisionConfig:
    """A SigLIP image encoder. One token a patch."""

    image_size: int = 224  # px, square
    patch: int = 14  # px
    width: int = 1152
    layers: int = 27
    heads: int = 16
    mlp: int = 4304

    def __post_init__(self) -> None:
        _require(
            self.image_size % self.patch == 0,
            f"vision.image_size {self.image_size} is no multiple of vision.patch {self.patch}",
        )
        _require(
            self.width % self.heads == 0,
            f"vision.width {self.width} is no multiple of vision.heads {self.heads}",
        )

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch


@dataclass(frozen=True)
class ExpertConfig:
    """One Gemma stack. Experts share `layers`, `heads`, `kv_heads`, `head_dim`: they attend to
    each other's keys and values layer by layer."""

    width: int = 1024
    mlp: int = 4096
    layers: int = 18
    heads: int = 8
    kv_heads: int = 1
    head_dim: int = 256
    rope_theta: float = 10_000.0

    def __post_init__(self) -> None:
        _require(
            self.heads % self.kv_heads == 0,
            f"{self.heads} query heads cannot share {self.kv_heads} key heads",
        )
        _require(self.head_dim % 2 == 0, f"head_dim {self.head_dim} is odd; RoPE turns pairs")

    @property
    def shared(self) -> tuple[int, int, int, int]:
        """What experts must have in common."""
        return self.layers, self.heads, self.kv_heads, self.head_dim


@dataclass(frozen=True)
class DepthConfig:
    """The depth branch: what it predicts, and how (paper, sec. on the depth expert)."""

    expert: bool = True  # False: no depth branch at all
    target: str = "codes"  # codes | latents | pixels | none (the expert stays, unsupervised)
    head: str = "distance"  # -|x - c|^2 * s against the codebook (eq. 3) | linear
    temperature: float = 0.0  # fixed tau of eq. 3; 0: a learnable scale, CE at the start near ln K
    prior: bool = False  # logits start from how often each position has each code, not from nothing
    future: int = 0  # predict the codes this many steps ahead
    codes: int = 256  # K
    code_dim: int = 160  # D
    grid: int = 16  # codes along one side
    cameras: int = 1  # the first n cameras have codes
    detach_prefix: bool = False  # stop the depth gradient at Gemma's keys and values

    def __post_init__(self) -> None:
        one_of("depth.target", self.target, ("codes", "latents", "pixels", "none"))
        one_of("depth.head", self.head, ("distance", "linear"))
        _require(
            not self.prior or self.target == "codes",
            f"depth.prior counts codes, the target is {self.target!r}",
        )
        _require(self.future >= 0, f"depth.future {self.future} lies in the past")
        _at_least(0, self, "temperature", "depth.")
        _at_least(1, self, "cameras", "depth.")

    @property
    def supervised(self) -> bool:
        return self.expert and self.target != "none"


@dataclass(frozen=True)
class FlowConfig:
    """Conditional flow matching of the action chunk. Time 1 is data, time 0 is noise."""

    sampling: str = "beta"  # beta: t = 0.999 (1 - z), z ~ Beta(1.5, 1) | uniform
    sigma_min: float = 0.001  # what is left of the noise at t = 1
    euler_steps: int = 10
    time_period: float = 100.0  # longest period of the sinusoidal time embedding
    clip: float = 1.0  # final actions are clipped to [-clip, clip]; 0: never

    def __post_init__(self) -> None:
        one_of("flow.sampling", self.sampling, ("beta", "uniform"))
        _at_least(0, self, "clip", "flow.")
        _at_least(1, self, "euler_steps", "flow.")


@dataclass(frozen=True)
class ModelConfig:
    vision: VisionConfig = VisionConfig()
    vlm: ExpertConfig = ExpertConfig(width=2048, mlp=16_384)
    action: ExpertConfig = ExpertConfig()
    depth_expert: ExpertConfig = ExpertConfig()
    depth: DepthConfig = DepthConfig()
    flow: FlowConfig = FlowConfig()
    mask: str = "qdepth"  # a table of vla/masks.py: qdepth | prefix | causal
    action_sees_depth: bool = True  # False: the depth expert is dropped at inference
    vocabulary: int = 257_216
    max_text: int = 20  # tokens, <bos> and the closing newline among them
    cameras: int = 1
    action_dim: int = 7
    proprio_dim: int = 8  # 0: no proprio token
    chunk: int = 4  # actions predicted at once

    def __post_init__(self) -> None:
        one_of("mask", self.mask, ("qdepth", "prefix", "causal"))
        for name, expert in (("action", self.action), ("depth_expert", self.depth_expert)):
            _require(
                expert.shared == self.vlm.shared,
                f"{name} has (layers, heads, kv_heads, head_dim) = {expert.shared},"
                f" vlm has {self.vlm.shared}",
                "experts read each other's keys and values: make them equal",
            )
        _require(
            not self.depth.expert or self.depth.cameras <= self.cameras,
            f"depth.cameras = {self.depth.cameras}, but the model sees {self.cameras}",
        )
        _require(
            self.depth.grid % self.vision.grid == 0,
            f"a {self.depth.grid}x{self.depth.grid} code grid does not divide into"
            f" {self.vision.grid}x{self.vision.grid} image tokens",
            "choose vision.image_size / vision.patch so that it divides depth.grid",
        )
        _at_least(1, self, "chunk action_dim", "model.")
        _at_least(2, self, "max_text", "model.")


@dataclass(frozen=True)
class DataConfig:
    cameras: tuple[str, ...] = ()  # names, in the model's order; those with codes first
    action_norm: str = "bounds"  # bounds: min..max to -1..1 | q99: 1 %..99 % quantiles
    proprio_norm: str = "bounds"
    photometric: float = 0.0  # strength of brightness, contrast, saturation jitter
    crop: float = 1.0  # random crops of this share of the area or more; their depth is encoded anew
    tokenizer: str = "bytes"  # or a path to a tokenizer.json

    def __post_init__(self) -> None:
        for name in ("action_norm", "proprio_norm"):
            one_of(name, getattr(self, name), ("bounds", "q99"))
        once = len({*self.cameras}) == len(self.cameras)
        _require(once, f"data.cameras names one twice: {', '.join(self.cameras)}")
        _require(0 < self.crop <= 1, f"data.crop = {self.crop} not in (0, 1]")
        _require(0 <= self.photometric < 1, f"data.photometric = {self.photometric} not in [0, 1)")


@dataclass(frozen=True)
class TrainConfig:
    """What training does. `batch` is the global batch: over all ranks and accumulation steps."""

    steps: int = 19_000
    batch: int = 1024
    optimizer: str = "adamw"  # adamw | adamw8bit: moments of 8 bits (not fsdp; extra `eightbit`)
    lr: float = 5e-5
    vlm_lr: float = 0.0  # of SigLIP, projector and Gemma; 0: `lr`
    scale_lr: float = 1e-3  # of the depth head's learnable scale
    schedule: str = "cosine"  # after the warm-up: cosine to `lr_end` | constant
    warmup: int = 200
    lr_end: float = 0.0  # share of lr left at the last step
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0  # largest global gradient norm; 0: none
    depth_weight: float = 0.01  # lambda_0
    depth_decay: float = 0.9999  # gamma, a step
    depth_schedule: str = "exponential"  # lambda_0 gamma^t | constant | cosine (to 0)
    ema: float = 0.0  # decay a step; 0: none
    precision: str = "fp32"  # of activations and products: fp32 | bf16; weights stay fp32
    freeze: tuple[str, ...] = ("embed",)  # parts that do not train: embed, vision, projector, vlm
    lora_rank: int = 0  # 0: no adapters
    lora_alpha: float = 16.0
    seed: int = 0

    def __post_init__(self) -> None:
        one_of("train.schedule", self.schedule, ("cosine", "constant"))
        one_of("train.depth_schedule", self.depth_schedule, ("exponential", "constant", "cosine"))
        one_of("train.optimizer", self.optimizer, ("adamw", "adamw8bit"))
        one_of("train.precision", self.precision, ("fp32", "bf16"))
        for part in self.freeze:
            one_of("train.freeze", part, ("embed", "vision", "projector", "vlm"))
        _at_least(1, self, "steps batch", "train.")
        _at_least(0, self, "lr vlm_lr scale_lr clip depth_weight lora_rank", "train.")
        _require(0 <= self.ema < 1, f"train.ema = {self.ema} is no decay")


@dataclass(frozen=True)
class Config:
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    name: str = ""

    def __post_init__(self) -> None:
        _require(
            not self.data.cameras or len(self.data.cameras) == self.model.cameras,
            f"data.cameras names {len(self.data.cameras)}, model.cameras is {self.model.cameras}",
        )

    def to_json(self) -> dict:
        """Every number, as plain JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Config:
        """The inverse of `to_json`; unknown names raise `ConfigError`."""
        return from_mapping(cls, data, "settings")

    def updated(self, overrides: Mapping[str, Any]) -> Config:
        """With dotted names set: `config.updated({"train.lr": 1e-4})`."""
        return Config.from_json(merged(self.to_json(), nested(overrides)))


@dataclass(frozen=True)
class RunOptions:
    """How a run goes. Nothing here changes what is learnt on one kind of device."""

    workers: int = 2  # loading threads; 0: load in the training thread
    prefetch: int = 2  # batches ahead
    micro_batch: int = 0  # samples a rank takes at once; 0: its whole share of the batch
    log_every: int = 10  # steps
    checkpoint_every: int = 1000  # steps
    keep_last: int = 3  # checkpoints
    validate_every: int = 0  # steps; 0: never
    validate_batches: int = 8
    grad_norms_every: int = 0  # steps between both losses' gradient norms (not fsdp); 0: never
    resume: bool = True
    compile: bool = False  # torch.compile, layer by layer
    recompute: bool = False  # activation checkpointing, layer by layer
    sharding: str = "ddp"  # how several ranks share the model: ddp | fsdp
    trackers: tuple[str, ...] = ()  # logs beside metrics.jsonl: tensorboard, wandb

    def __post_init__(self) -> None:
        for name in self.trackers:
            one_of("log", name, ("tensorboard", "wandb"))
        one_of("sharding", self.sharding, ("ddp", "fsdp"))
        _at_least(1, self, "log_every checkpoint_every keep_last validate_batches")
        _at_least(0, self, "workers prefetch micro_batch validate_every grad_norms_every")
        _require(
            not (self.grad_norms_every and self.sharding == "fsdp"),
            "grad_norms_every needs whole gradients, which fsdp has nowhere",
            "set grad_norms_every = 0, or sharding = 'ddp'",
        )


def nested(dotted: Mapping[str, Any]) -> dict:
    """Tables from dotted names: `{"train.lr": 1}` is `{"train": {"lr": 1}}`."""
    tree: dict = {}
    for name, value in dotted.items():
        *parents, leaf = name.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict:
    """The tables of both; where both say something, `above` wins."""
    made = dict(below)
    for name, value in above.items():
        tables = isinstance(value, Mapping) and isinstance(made.get(name), Mapping)
        made[name] = merged(made[name], value) if tables else value
    return made
