"""How the weights of every part start when no checkpoint is loaded."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from opentau.models.expert import ActionExpert
from opentau.models.norms import AdaptiveRMSNorm
from opentau.models.transformer import Layer, Transformer
from opentau.models.vision import VisionTower

POSITION_STD = 0.02


@torch.no_grad()
def initialise(model: nn.Module, *, seed: int) -> None:
    """Set all weights of `model` as a function of the seed.

    Matrices are truncated normal with variance 1 / fan-in; what writes into a residual stream of L layers is smaller by
    √(2 L); biases, adaptive modulations and the indicator embedding are zero; embeddings have unit length on average.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            _fan_in(module.weight, generator)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.Embedding):
            module.weight.normal_(std=module.embedding_dim**-0.5, generator=generator)
        elif isinstance(module, VisionTower):
            module.position_embedding.normal_(std=POSITION_STD, generator=generator)
    for module in model.modules():
        if isinstance(module, Transformer):
            for layer in module.layers:
                _shrink_outputs(layer, depth=module.config.depth)
        elif isinstance(module, AdaptiveRMSNorm):
            module.dense.weight.zero_()
        elif isinstance(module, ActionExpert) and module.indicator_embedding is not None:
            module.indicator_embedding.weight.zero_()


def _fan_in(weight: Tensor, generator: torch.Generator) -> None:
    std = weight[0].numel() ** -0.5
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std, generator=generator)


def _shrink_outputs(layer: nn.Module, *, depth: int) -> None:
    assert isinstance(layer, Layer)
    for projection in (layer.self_attn.o_proj, layer.mlp.down_proj):
        projection.weight.mul_(1.0 / math.sqrt(2 * depth))
