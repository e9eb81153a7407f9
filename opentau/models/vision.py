"""Vision towers: from pixels to tokens of the backbone's width."""

# Shapes: M images, Y and X rows and columns, R channels, P tokens and Q patches of an image, V and W width of tower and stream.

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from opentau.models.attention import Attention
from opentau.models.config import ConvTowerConfig, VisionConfig, ViTTowerConfig
from opentau.models.efficientnet import EfficientNetLiteTower
from opentau.models.mlp import MLP
from opentau.models.norms import RMSNorm
from opentau.models.recomputing import Recomputation


def scaled_pixels(images_MYXR: Tensor) -> Tensor:
    """Return float32 [M, R, Y, X] in [-1, 1], channels last in memory, from uint8 [M, Y, X, R]."""
    return images_MYXR.permute(0, 3, 1, 2).float().div(127.5).sub(1.0)


class ConvTower(nn.Module):
    """Stride-2 convolutions with group norm, then learned positions."""

    def __init__(self, config: ConvTowerConfig, *, width: int) -> None:
        super().__init__()
        self.call = Recomputation()
        sizes = (3, *config.channels)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            layers += [
                nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1, bias=False),
                nn.GroupNorm(config.num_groups, after),
                nn.GELU(),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(sizes[-1], width, kernel_size=3, stride=2, padding=1))
        self.position_embedding = nn.Parameter(torch.zeros(config.num_tokens, width))

    def forward(self, pixels_MRYX: Tensor) -> Tensor:
        """Return tokens, [M, P, W], from pixels in [-1, 1]."""
        tokens_MWYX = self.call(self.layers, pixels_MRYX)
        return tokens_MWYX.flatten(2).transpose(1, 2) + self.position_embedding


class ViTLayer(nn.Module):
    """A pre-norm encoder layer."""

    def __init__(self, config: ViTTowerConfig) -> None:
        super().__init__()
        heads, head_dim = config.num_heads, config.width // config.num_heads
        self.layer_norm1 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.self_attn = Attention(config.width, num_heads=heads, num_kv_heads=heads, head_dim=head_dim, has_bias=True)
        self.layer_norm2 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = MLP(config.width, mlp_dim=config.mlp_dim)

    def forward(self, x_MQV: Tensor) -> Tensor:
        """Return [M, Q, V]; every patch sees every other of its image."""
        normed_MQV = self.layer_norm1(x_MQV)
        own = self.self_attn.keys_values(normed_MQV, None)
        x_MQV = x_MQV + self.self_attn(normed_MQV, own, rotation=None)
        return x_MQV + self.mlp(self.layer_norm2(x_MQV))


class ViTTower(nn.Module):
    """Patches, learned positions, encoder layers, a norm and the projection into the backbone (SigLIP, arXiv:2303.15343).

    Gemma 3 (arXiv:2503.19786) averages neighbouring patches into one token before the projection.
    """

    def __init__(self, config: ViTTowerConfig, *, width: int) -> None:
        super().__init__()
        self.config = config
        self.call = Recomputation()
        self.patch_embedding = nn.Conv2d(3, config.width, kernel_size=config.patch_size, stride=config.patch_size)
        self.position_embedding = nn.Parameter(torch.zeros(config.num_patches, config.width))
        self.layers = nn.ModuleList(ViTLayer(config) for _ in range(config.depth))
        self.post_layernorm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.pool = nn.AvgPool2d(config.pool_size) if config.pool_size > 1 else None
        is_normed = config.projector == "normed"
        self.projection_norm = RMSNorm(config.width, eps=config.norm_eps) if is_normed else None
        self.projection = nn.Linear(config.width, width, bias=not is_normed)

    def forward(self, pixels_MRYX: Tensor) -> Tensor:
        """Return tokens, [M, P, W], from pixels in [-1, 1]."""
        x_MQV = self.patch_embedding(pixels_MRYX).flatten(2).transpose(1, 2) + self.position_embedding
        for layer in self.layers:
            x_MQV = self.call(layer, x_MQV)
        return self.project(self.post_layernorm(x_MQV))

    def project(self, x_MQV: Tensor) -> Tensor:
        """Return tokens, [M, P, W], from the stream of the patches."""
        if self.pool is not None:
            rows = self.config.num_rows
            x_MQV = self.pool(x_MQV.transpose(1, 2).unflatten(2, (rows, rows))).flatten(2).transpose(1, 2)
        return self.projection(x_MQV if self.projection_norm is None else self.projection_norm(x_MQV))


VisionTower = ConvTower | ViTTower | EfficientNetLiteTower


def vision_tower(config: VisionConfig, *, width: int) -> VisionTower:
    """Return the tower that a configuration describes, with tokens of this width."""
    if isinstance(config, ConvTowerConfig):
        return ConvTower(config, width=width)
    return ViTTower(config, width=width) if isinstance(config, ViTTowerConfig) else EfficientNetLiteTower(config, width=width)
