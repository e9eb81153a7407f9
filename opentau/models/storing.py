"""In which numbers the weights of a model are stored."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from opentau.models.lora import AdaptedLinear

MATRIX_LAYERS = (nn.Linear, nn.Conv2d, nn.Embedding, AdaptedLinear)
"""Layers whose weight may be bfloat16: under autocast they multiply in it anyway. Norms and biases are small, and stay."""


def store_matrices_as(model: nn.Module, dtype: torch.dtype, *, where: Callable[[Tensor], bool] = lambda weight: True) -> None:
    """Store the matrices of a model in narrower numbers, in place, or those of them that `where` says."""
    for module in model.modules():
        if isinstance(module, MATRIX_LAYERS) and where(module.weight):
            module.weight.data = module.weight.detach().to(dtype)
