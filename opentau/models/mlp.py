"""The two feed-forward blocks: gated (language, actions) and plain (vision)."""

# Shapes: B batch, T tokens, W width.

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn


class GatedMLP(nn.Module):
    """down(activation(gate(x)) · up(x)), without biases (GeGLU and SwiGLU, arXiv:2002.05202)."""

    def __init__(self, width: int, *, mlp_dim: int, activation: str, gelu: str) -> None:
        super().__init__()
        self.activation = F.silu if activation == "silu" else partial(F.gelu, approximate=gelu)
        self.gate_proj = nn.Linear(width, mlp_dim, bias=False)
        self.up_proj = nn.Linear(width, mlp_dim, bias=False)
        self.down_proj = nn.Linear(mlp_dim, width, bias=False)

    def forward(self, x_BTW: Tensor) -> Tensor:
        """Return [B, T, W]."""
        return self.down_proj(self.activation(self.gate_proj(x_BTW)) * self.up_proj(x_BTW))


class MLP(nn.Module):
    """fc2(gelu(fc1(x)))."""

    def __init__(self, width: int, *, mlp_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, mlp_dim)
        self.fc2 = nn.Linear(mlp_dim, width)

    def forward(self, x_BTW: Tensor) -> Tensor:
        """Return [B, T, W]."""
        return self.fc2(F.gelu(self.fc1(x_BTW), approximate="tanh"))
