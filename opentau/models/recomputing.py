"""Activations of layers that the backward pass computes once more instead of keeping them (arXiv:1604.06174)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Recomputation(nn.Module):
    """Calls the layers of a stack; if they are recomputed, only what goes into one is kept until the backward pass.

    Dropout draws the same again, so that loss and gradients are equal to the bit.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_on = False

    def forward(self, layer: nn.Module, *args: Any, **named: Any) -> Any:
        """Return what the layer returns."""
        if not (self.is_on and torch.is_grad_enabled()):
            return layer(*args, **named)
        return checkpoint(layer, *args, use_reentrant=False, preserve_rng_state=True, **named)


def recompute_layers(model: nn.Module) -> None:
    """Let every stack of layers in a model be recomputed, in place."""
    for module in model.modules():
        if isinstance(module, Recomputation):
            module.is_on = True
