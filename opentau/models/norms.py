"""Root-mean-square norms: with learned weights, or modulated by a conditioning vector."""

# Shapes: B batch, T tokens, W width, Z width of the condition; the condition's T may be 1.

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """x / rms(x) · (1 + weight), with the weight starting at zero (Gemma's parametrisation)."""

    def __init__(self, width: int, *, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x_BTW: Tensor) -> Tensor:
        """Return the normed stream, [B, T, W]."""
        return F.rms_norm(x_BTW, (x_BTW.shape[-1],), (1.0 + self.weight).to(x_BTW.dtype), self.eps)


class AdaptiveRMSNorm(nn.Module):
    """x / rms(x) · (1 + scale) + shift, and a residual gate, all linear in a condition and zero at initialisation.

    The π family feeds flow time this way (adaRMS); the order scale, shift, gate is that of openpi's checkpoints.
    """

    def __init__(self, width: int, *, condition_dim: int, eps: float, gate_offset: float) -> None:
        super().__init__()
        self.dense = nn.Linear(condition_dim, 3 * width)
        self.eps = eps
        self.gate_offset = gate_offset

    def forward(self, x_BTW: Tensor, condition_BTZ: Tensor) -> tuple[Tensor, Tensor]:
        """Return the modulated stream [B, T, W] and the gate of the block that it feeds, [B, T or 1, W]."""
        scale, shift, gate = self.dense(condition_BTZ).chunk(3, dim=-1)
        normed_BTW = F.rms_norm(x_BTW, (x_BTW.shape[-1],), None, self.eps)
        return torch.addcmul(shift, normed_BTW, 1.0 + scale), gate + self.gate_offset
