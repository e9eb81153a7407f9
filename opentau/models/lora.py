"""Low-rank adapters (LoRA, arXiv:2106.09685): linear layers that stay, each with a narrow product that is trained instead."""

# Shapes: I and O input and output size of a layer, R rank.

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AdaptedLinear(nn.Module):
    """W x + b + scale · U V x, where W and b stay and U starts at zero: at first it computes what the layer did.

    Weight and bias keep their names, so that a checkpoint of the model finds them.
    """

    def __init__(self, base: nn.Linear, *, rank: int, scale: float, generator: torch.Generator) -> None:
        super().__init__()
        self.weight, self.bias = base.requires_grad_(False).weight, base.bias
        self.scale = scale
        down_RI = torch.randn((rank, base.in_features), generator=generator) * base.in_features**-0.5
        self.adapter_in = nn.Parameter(down_RI.to(base.weight.device))
        self.adapter_out = nn.Parameter(torch.zeros((base.out_features, rank), device=base.weight.device))

    def forward(self, x_BTI: Tensor) -> Tensor:
        """Return [B, T, O]."""
        change_BTO = F.linear(F.linear(x_BTI, self.adapter_in), self.adapter_out)
        return F.linear(x_BTI, self.weight, self.bias) + self.scale * change_BTO

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return a plain layer that computes the same, float32."""
        out_features, in_features = self.weight.shape
        with torch.device("meta"):
            plain = nn.Linear(in_features, out_features, bias=self.bias is not None)
        plain.weight = nn.Parameter(self.weight.float().addmm(self.adapter_out, self.adapter_in, alpha=self.scale))
        if self.bias is not None:
            plain.bias = nn.Parameter(self.bias.float())
        return plain


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """Return what can be adapted, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}


def adapt(model: nn.Module, name: str, *, rank: int, scale: float, generator: torch.Generator) -> None:
    """Put an adapter on the linear layer of this name, in place; its first half is drawn."""
    base = model.get_submodule(name)
    assert isinstance(base, nn.Linear)
    _replace(model, name, AdaptedLinear(base, rank=rank, scale=scale, generator=generator))


def merge_adapters(model: nn.Module) -> None:
    """Add every adapter into its layer's weight, in place: plain layers are left."""
    adapted = {name: module for name, module in model.named_modules() if isinstance(module, AdaptedLinear)}
    for name, module in adapted.items():
        _replace(model, name, module.merged())


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    owner, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(owner), attribute, module)
