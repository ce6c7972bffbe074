"""GemDepth (arXiv 2605.10525): Video-Depth-Anything, whose coarsest level is made per window.

The encoder's last tap goes through two stages first. GEM estimates the camera pose of each frame,
and adds what follows from it to the frame's features. ASTT attends in turn over all patches of all
frames at once, and over the frames of each patch.

Letters: B windows, T frames, S patches (h rows of w), D features, F fused features.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from pipelines.depth.gem.attention import rotation
from pipelines.depth.gem.blocks import PrunedBlock, TokenBlock
from pipelines.depth.gem.config import REGISTERS, SPECIAL, GemConfig
from pipelines.depth.gem.pose import CameraHead, Pose, PoseEmbedding
from pipelines.depth.vida.config import PATCH
from pipelines.depth.vida.encoder import StreamNorm
from pipelines.depth.vida.head import Pyramid
from pipelines.depth.vida.network import VideoDepth

HEAD = 64  # features of a head of the blocks that see camera tokens
SPATIAL_HEAD, TIME_HEAD = 32, 8
STAGES = 2  # of ASTT


class GemDepth(VideoDepth):
    """The network, with the parameter names of the official checkpoint.

    What that has and no result depends on is not here (`weights.UNUSED`); without `config.pose`,
    neither is what predicts poses.
    """

    def __init__(self, config: GemConfig) -> None:
        super().__init__(config)
        dim = config.dim
        self.pose = config.pose
        del self.pretrained.mask_token, self.head.scratch.refinenet4.resConfUnit1
        if config.pose:
            self.camera_token = nn.Parameter(torch.zeros(1, 2, 1, dim))
            self.register_token = nn.Parameter(torch.zeros(1, 2, REGISTERS, dim))
            heads = dim // HEAD
            self.frame_blocks = nn.ModuleList([TokenBlock(dim, heads, eps=1e-5, normed=True)])
            self.global_blocks = nn.ModuleList([PrunedBlock(dim, heads, eps=1e-5)])
            self.camera_head = CameraHead(2 * dim)
        self.cam_rot_encoder = PoseEmbedding(4, dim)
        self.cam_trans_encoder = PoseEmbedding(3, dim)
        self.cam_trans_scale_encoder = PoseEmbedding(1, dim)
        self.dec_norm = StreamNorm(dim)

        def stages(width: int) -> nn.ModuleList:
            blocks = (TokenBlock(dim, dim // width, eps=1e-6, scaled=False) for _ in range(STAGES))
            return nn.ModuleList(blocks)

        self.spatial_blocks, self.time_blocks = stages(SPATIAL_HEAD), stages(TIME_HEAD)

    def encode(self, images: Float[Tensor, "N 3 H W"]) -> Pyramid:
        """The features of frames, shared by all windows that contain them."""
        taps = self.pretrained(images)
        return self.head.pyramid(taps, images.shape[-2] // PATCH, tokens=True)

    def mix(
        self,
        level3: Float[Tensor, "B T c3 h w"],
        level4: Float[Tensor, "B T S D"],
        slots: list[int] | None = None,
    ) -> Float[Tensor, "B t F h2 w2"]:
        """The coarse features of windows, mixed over time; only `slots` are returned. `level4` are
        the tokens of which the coarsest level is made here."""
        rows = level3.shape[-2]
        x_BTSD = self.alternate(self.embedded(level4, rows), rows)
        tokens = x_BTSD.flatten(0, 1).to(level3.dtype)
        coarsest = self.head.level(3, tokens, rows).unflatten(0, x_BTSD.shape[:2])
        return self.head.mix(level3, coarsest, slots)

    def embedded(self, x_BTSD: Float[Tensor, "B T S D"], rows: int) -> Float[Tensor, "B T S D"]:
        """GEM: the features with the poses of their frames, float32."""
        windows, frames = x_BTSD.shape[:2]
        if self.pose:
            pose = Pose.relative(self.poses(x_BTSD, rows)[-1])
        else:
            pose = Pose.none(windows, frames, x_BTSD.device)
        embedding = (
            self.cam_rot_encoder(pose.quaternion)
            + self.cam_trans_encoder(pose.translation)
            + self.cam_trans_scale_encoder((pose.scale + 1e-8).log())
        )
        return x_BTSD + embedding[:, :, None]

    def poses(self, x_BTSD: Float[Tensor, "B T S D"], rows: int) -> list[Float[Tensor, "B T 9"]]:
        """The estimates of every frame's camera pose, the last one best."""
        return self.camera_head(self.cameras(x_BTSD, rows))

    def cameras(self, x_BTSD: Float[Tensor, "B T S D"], rows: int) -> Float[Tensor, "B T C"]:
        """The camera token of every frame after it has seen its frame, and then all frames."""
        windows, frames, patches, dim = x_BTSD.shape
        turn = rotation(rows, patches // rows, HEAD, SPECIAL, x_BTSD.device)
        special = torch.cat((self.camera_token, self.register_token), dim=2)
        special = torch.cat((special[:, :1], special[:, 1:].expand(-1, frames - 1, -1, -1)), dim=1)
        tokens = torch.cat((special.expand(windows, -1, -1, -1), x_BTSD), dim=2)
        tokens = self.frame_blocks[0](tokens.flatten(0, 1).float(), turn)
        camera_tokens = tokens[:, 0].unflatten(0, (windows, frames))
        tokens = tokens.reshape(windows, -1, dim)
        attended = self.global_blocks[0](tokens, turn, SPECIAL + patches)
        return torch.cat((camera_tokens, attended), dim=-1)

    def alternate(self, x_BTSD: Float[Tensor, "B T S D"], rows: int) -> Float[Tensor, "B T S D"]:
        """ASTT: attention over all patches of all frames, then over the frames of a patch; twice.
        Float32."""
        windows, frames, patches, dim = x_BTSD.shape
        turn = rotation(rows, patches // rows, SPATIAL_HEAD, 0, x_BTSD.device)
        x_BTSD = self.normed(x_BTSD) + slot_code(frames, dim, x_BTSD.device)[:, None]
        for spatial, time in zip(self.spatial_blocks, self.time_blocks, strict=True):
            x_BTSD = spatial(x_BTSD.flatten(1, 2), turn).unflatten(1, (frames, patches))
            x_PTD = time(rearrange(x_BTSD, "b t s d -> (b s) t d"))
            x_BTSD = rearrange(x_PTD, "(b s) t d -> b t s d", b=windows)
        return x_BTSD

    def normed(self, x_BTSD: Float[Tensor, "B T S D"]) -> Float[Tensor, "B T S D"]:
        """What ASTT starts from, before slots are told apart."""
        return self.dec_norm(x_BTSD.flatten(0, 1)).float().unflatten(0, x_BTSD.shape[:2])


def slot_code(frames: int, dim: int, device: torch.device) -> Float[Tensor, "T D"]:
    """The code of each slot: all sines, then all cosines, of float64 angles."""
    count = dim // 2
    rates = 10000.0 ** (-torch.arange(count, dtype=torch.float64, device=device) / count)
    angles = torch.arange(frames, dtype=torch.float64, device=device)[:, None] * rates
    return torch.cat((angles.sin(), angles.cos()), dim=-1).float()
