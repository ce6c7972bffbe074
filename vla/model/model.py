"""QDepth-VLA: SigLIP and Gemma read images and instruction, a depth expert predicts the depth codes
of the images, an action expert denoises a chunk of actions. They run in this order, and each
attends to what the mask (`vla/model/masks.py`) allows.

Positions: image then text tokens count from 1; depth tokens take the positions of their image
tokens; proprio is 1 and actions count from 2, independent of the lengths before them.
"""

# B batch, I cameras, T tokens, V vision width, W model width, L text tokens, P proprio dimensions
# C chunk, A action dimensions, M cameras with codes

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vla.config import ModelConfig
from vla.model import flow, mixture, reading
from vla.model.batch import Batch, Observation
from vla.model.depth_head import DepthHead, DepthInput, depth_loss
from vla.model.depth_input import CodesIn, guidance
from vla.model.gemma import Expert, GemmaNorm
from vla.model.masks import Layout, SeesTable
from vla.model.mixture import Context, TokenStream
from vla.model.siglip import Siglip
from vla.model.soft_targets import softening


class Losses(NamedTuple):
    """The losses of one batch, and the depth expert's prediction."""

    flow: Float[Tensor, ""]
    depth: Float[Tensor, ""]  # 0 without supervision
    depth_predicted: Float[Tensor, "B M K N"] | None
    softening: Float[Tensor, ""] | None = None  # what soft targets add to the depth loss

    @property
    def taught(self) -> Float[Tensor, ""]:
        """The depth loss that is minimised; `depth` is that of the true codes, whatever is."""
        return self.depth if self.softening is None else self.depth + self.softening


class ActionDoor(nn.Module):
    """Embeds actions, their time and proprio for the action expert; projects its output to
    velocities."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.action.width
        self.config = config
        self.action_in = nn.Linear(config.action_dim, width)
        self.mix = nn.Linear(2 * width, width)
        self.mixed = nn.Linear(width, width)
        self.proprio_in = nn.Linear(config.proprio_dim, width) if config.proprio_dim else None
        self.action_out = nn.Linear(width, config.action_dim)

    def forward(self, actions_BCA: Tensor, time_B: Tensor, proprio_BP: Tensor) -> Tensor:
        """Tokens [B, (1 +) C, W]: one for proprio, then one per action. Takes float32 whatever the
        weights are."""
        dtype = self.action_in.weight.dtype
        a_BCW = self.action_in(actions_BCA.to(dtype))
        period = self.config.flow.time_period
        t_BW = flow.embed_time(time_B, a_BCW.shape[-1], period).to(a_BCW.dtype)
        both = torch.cat([a_BCW, t_BW[:, None].expand_as(a_BCW)], dim=-1)
        x_BTW = self.mixed(F.silu(self.mix(both)))
        if self.proprio_in is None:
            return x_BTW
        return torch.cat([self.proprio_in(proprio_BP.to(dtype))[:, None], x_BTW], dim=1)


class QDepthVLA(nn.Module):
    """The whole model. `forward` is for training, `context` and `velocity` for inference."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.table = SeesTable.named(config.mask, config.action_sees_depth)
        self.fast_cpu = False  # see `train.fast_cpu`
        self.vision = Siglip(config.vision)
        self.projector = nn.Linear(config.vision.width, config.vlm.width)
        self.embed = nn.Embedding(config.vocabulary, config.vlm.width)
        self.vlm = Expert(config.vlm)
        self.action = Expert(config.action)
        self.door = ActionDoor(config)
        if config.depth.expert:
            width = config.depth_expert.width
            self.depth_in = DepthInput(config.vision.width, width)
            self.depth = Expert(config.depth_expert)
            self.depth_head = DepthHead(config.depth, width, config.vision.grid)
            if config.depth.target == "input":
                self.codes_in = CodesIn(config)

    def experts(self) -> Mapping[str, Expert]:
        """The experts by name, in the order in which they run."""
        experts = {"vlm": self.vlm, "action": self.action}
        return experts | {"depth": self.depth} if self.config.depth.expert else experts

    # The streams

    def see(self, seen: Observation) -> Float[Tensor, "B T V"]:
        """SigLIP tokens, camera by camera."""
        cameras = seen.images_BIHW3.shape[1]
        tokens = self.vision(rearrange(seen.images_BIHW3, "B I H W c -> (B I) H W c"))
        return rearrange(tokens, "(B I) T V -> B (I T) V", I=cameras)

    def prefix(self, seen: Observation, vision_BTV: Tensor) -> TokenStream:
        """Image tokens (unscaled) and text (times the square root of the width, as in Gemma)."""
        image = self.projector(vision_BTV)
        text = self._embedded(seen.text_BL, image)
        x_BTW = torch.cat([image, text], dim=1)
        valid = seen.text_valid_BL.new_ones(image.shape[:2])
        valid_BT = torch.cat([valid, seen.text_valid_BL], dim=1)
        layout = Layout((("image", image.shape[1]), ("text", text.shape[1])), valid_BT)
        return TokenStream("vlm", x_BTW, _count(x_BTW), layout)

    def _embedded(self, text_BL: Tensor, like: Tensor) -> Tensor:
        return self.embed(text_BL).to(like.dtype) * self.config.vlm.width**0.5

    def read(self, seen: Observation, vision_BTV: Tensor) -> Context:
        """Keys and values of images and text."""
        if not self.fast_cpu:
            return mixture.run(self.vlm, self.prefix(seen, vision_BTV), self.table, None, True)[1]
        shorter = reading.without_padding(seen)
        if not reading.apart(self.table):
            prefix = self.prefix(shorter, vision_BTV)
            return mixture.run(self.vlm, prefix, self.table, None, True)[1]
        image = self.projector(vision_BTV)
        stream = TokenStream("vlm", image, _count(image), Layout((("image", image.shape[1]),)))
        _, context = mixture.run(self.vlm, stream, self.table, None, True)
        text_UL, valid_UL, which_B = reading.once(shorter.text_BL, shorter.text_valid_BL)
        text = self._embedded(text_UL, image)
        layout = Layout((("text", text.shape[1]),), valid_UL)
        texts = TokenStream("vlm", text, _count(text, 1 + image.shape[1]), layout)
        return context + reading.read(self.vlm, texts, which_B, self.table)

    def depth_stream(self, vision_BTV: Tensor, seen: Observation | None = None) -> TokenStream:
        """The tokens of the cameras that have codes; where codes are an input, with those `seen`,
        if any."""
        tokens = self.config.depth.cameras * self.config.vision.grid**2
        x_BTW = self.depth_in(vision_BTV[:, :tokens])
        if seen is not None and self.config.depth.target == "input":
            x_BTW = x_BTW + self.codes_in(*guidance(seen), self.depth_head.codebook_KD)
        return TokenStream("depth", x_BTW, _count(x_BTW), Layout((("depth", tokens),)))

    def action_stream(self, actions_BCA: Tensor, time_B: Tensor, proprio_BP: Tensor) -> TokenStream:
        """The tokens of proprio and of noisy actions at `time`."""
        x_BTW = self.door(actions_BCA, time_B, proprio_BP)
        actions = ("action", actions_BCA.shape[1])
        blocks = (("proprio", 1), actions) if self.config.proprio_dim else (actions,)
        first = 1 if self.config.proprio_dim else 2
        return TokenStream("action", x_BTW, _count(x_BTW, first), Layout(blocks))

    # Training

    def forward(
        self,
        batch: Batch,
        noise_BCA: Float[Tensor, "B C A"],
        time_B: Float[Tensor, " B"],
    ) -> Losses:
        """The action and depth losses of a batch, for given noise and times."""
        vision_BTV = self.see(batch)
        context = self.read(batch, vision_BTV)
        depth_BTW = None
        if self._runs_depth(training=True):
            below = context.detach() if self.config.depth.detach_prefix else context
            depth_BTW, depth_context = mixture.run(
                self.depth, self.depth_stream(vision_BTV, batch), self.table, below
            )
            context = context + depth_context
        point, target = flow.interpolate(self.config.flow, batch.actions_BCA, noise_BCA, time_B)
        velocity = self.velocity(context, point, time_B, batch.proprio_BP)
        return self._losses(batch, velocity, target, depth_BTW)

    def reference(
        self,
        batch: Batch,
        noise_BCA: Float[Tensor, "B C A"],
        time_B: Float[Tensor, " B"],
        table: SeesTable | None = None,
        **attention: Any,
    ) -> Losses:
        """The same as `forward` through one joint attention, which is slower, with any table and
        the options of `mixture.joint` (biases, a soft cap)."""
        vision_BTV = self.see(batch)
        point, target = flow.interpolate(self.config.flow, batch.actions_BCA, noise_BCA, time_B)
        streams = [self.prefix(batch, vision_BTV)]
        if self._runs_depth(training=True):
            streams.append(self.depth_stream(vision_BTV, batch))
        streams.append(self.action_stream(point, time_B, batch.proprio_BP))
        outputs = mixture.joint(
            self.experts(), streams, table or self.table, wanted=("depth", "action"), **attention
        )
        velocity = self.door.action_out(outputs["action"][:, -point.shape[1] :])
        return self._losses(batch, velocity, target, outputs.get("depth"))

    def _losses(
        self, batch: Batch, velocity: Tensor, target: Tensor, depth_BTW: Tensor | None
    ) -> Losses:
        action = flow.loss(velocity, target, batch.action_valid_BC)
        if depth_BTW is None or not self.config.depth.supervised:
            return Losses(action, action.new_zeros(()), None)
        predicted, settings = self.depth_head(depth_BTW), self.config.depth
        targets = batch.depth_BMK, batch.depth_valid_BM, self.depth_head.codebook_KD
        depth, extra = depth_loss(settings, predicted, *targets), None
        if settings.target_odds and settings.target == "codes":
            extra = softening(settings.target_odds, predicted, *targets)
        return Losses(action, depth, predicted, extra)

    def _runs_depth(self, training: bool) -> bool:
        """Whether the depth expert has to run: for its loss, or because actions attend to it."""
        if not self.config.depth.expert:
            return False
        return self.config.action_sees_depth or (training and self.config.depth.supervised)

    # Inference

    def context(self, seen: Observation) -> Context:
        """Everything that the action expert attends to, computed once per observation."""
        vision_BTV = self.see(seen)
        _, context = mixture.run(self.vlm, self.prefix(seen, vision_BTV), self.table, None, True)
        if not self._runs_depth(training=False):
            return context
        depth = self.depth_stream(vision_BTV, seen)
        return context + mixture.run(self.depth, depth, self.table, context, True)[1]

    def velocity(
        self, context: Context, actions_BCA: Tensor, time_B: Tensor, proprio_BP: Tensor
    ) -> Float[Tensor, "B C A"]:
        """The predicted velocity of noisy actions at `time`."""
        stream = self.action_stream(actions_BCA, time_B, proprio_BP)
        x_BTW, _ = mixture.run(self.action, stream, self.table, context)
        return self.door.action_out(x_BTW[:, -actions_BCA.shape[1] :])

    def sample(
        self, seen: Observation, noise_BCA: Float[Tensor, "B C A"]
    ) -> Float[Tensor, "B C A"]:
        """A chunk of normalised actions: computes the context once, then takes Euler steps."""
        context = self.context(seen)
        return flow.integrate(
            self.config.flow,
            lambda x, t: self.velocity(context, x, t, seen.proprio_BP),
            noise_BCA,
        )

    def predict_depth(self, seen: Observation) -> Float[Tensor, "B M K N"]:
        """The depth head's prediction for the images: see `DepthHead.forward`."""
        vision_BTV = self.see(seen)
        _, context = mixture.run(self.vlm, self.prefix(seen, vision_BTV), self.table, None, True)
        x_BTW, _ = mixture.run(self.depth, self.depth_stream(vision_BTV), self.table, context)
        return self.depth_head(x_BTW.to(self.depth_head.codebook_KD.dtype))  # never half


def _count(x_BTW: Tensor, first: int = 1) -> Tensor:
    """Positions first, first + 1, ... for every sample."""
    steps = torch.arange(first, first + x_BTW.shape[1], device=x_BTW.device)
    return steps.expand(len(x_BTW), -1)


def build(config: ModelConfig, seed: int, codebook_KD: Tensor | None = None) -> QDepthVLA:
    """A model with freshly initialised weights on the CPU, deterministic in `seed`."""
    with torch.device("meta"):
        model = QDepthVLA(config)
    model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        _start(module, generator)
    if config.depth.expert:
        model.depth_head.codebook_KD.zero_()
        model.depth_head.log_scale.data.zero_()
        if config.depth.prior:
            model.depth_head.log_prior_MPK.zero_()
        if codebook_KD is not None:
            model.depth_head.set_codebook(codebook_KD)
    return model


@torch.no_grad()
def _start(module: nn.Module, generator: torch.Generator) -> None:
    """Initialises weights: variance 1 / fan-in, biases 0, identity norms, unit-norm text."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        module.weight.normal_(0, module.weight[0].numel() ** -0.5, generator=generator)
        if module.bias is not None:
            module.bias.zero_()
    elif isinstance(module, nn.Embedding):
        module.weight.normal_(0, module.embedding_dim**-0.5, generator=generator)
    elif isinstance(module, nn.LayerNorm):
        module.weight.fill_(1)
        module.bias.zero_()
    elif isinstance(module, Siglip):
        module.positions.normal_(0, 0.5, generator=generator)
    elif isinstance(module, GemmaNorm):
        module.weight.zero_()
