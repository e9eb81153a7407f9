"""EfficientNet-Lite0 out of its published state dictionary: weights under the names of our tower."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from opentau.errors import CheckpointError
from opentau.models.efficientnet import STAGES

NORM_EPS = 1e-3
"""Of its batch norms."""
STEM = ("_conv_stem", "_bn0")
CONVOLUTIONS = {
    "expand": ("_expand_conv", "_bn0"),
    "depthwise": ("_depthwise_conv", "_bn1"),
    "project": ("_project_conv", "_bn2"),
}
"""Ours to theirs, each with the norm behind it."""
TOWER = "vision"


def vision_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the stages that our tower has, by the names of a policy; a missing one raises `CheckpointError`."""
    weights = _with_norm(state, *STEM, ours=f"{TOWER}.stem")
    for block in range(sum(count for count, *_ in STAGES)):
        prefix = f"_blocks.{block}."
        for ours, (convolution, norm) in CONVOLUTIONS.items():
            if block or ours != "expand":  # the first block is as wide as its input
                weights |= _with_norm(state, prefix + convolution, prefix + norm, ours=f"{TOWER}.blocks.{block}.{ours}")
    return weights


def _with_norm(state: Mapping[str, Tensor], convolution: str, norm: str, *, ours: str) -> dict[str, Tensor]:
    """Return a convolution and the gain and bias of its batch norm under the statistics of inference."""
    names = [f"{convolution}.weight", *(f"{norm}.{name}" for name in ("weight", "bias", "running_mean", "running_var"))]
    if missing := [name for name in names if name not in state]:
        raise CheckpointError(f"the weights of EfficientNet-Lite0 lack {', '.join(missing)}; fetch them again")
    weight, gain, bias, mean, variance = (state[name] for name in names)
    scale = gain / (variance + NORM_EPS).sqrt()
    return {f"{ours}.weight": weight, f"{ours}.scale": scale, f"{ours}.bias": bias - mean * scale}
