"""Feature blocks of the critic: what turns its inputs into one vector per frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from opentau.config import later

# Shapes: B batch, P features of a frozen policy, S state dimensions, W features of a block, K actions of a chunk, A action
# dimensions.


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSizes:
    """What a feature block must know of its inputs."""

    prefix_dim: int
    """Width of the frozen policy's features; 0 where none are given."""
    state_dim: int
    num_prompts: int
    """Prompts seen in fitting."""
    num_cameras: int = later(0)
    """The policy's, for blocks that read pixels; so are the next two."""
    image_size: int = later(0)
    """Rows and columns of its images."""
    num_words: int = later(0)
    """Ids of its text."""
    num_actions: int = later(0)
    """Of a chunk, for blocks that read what is played."""
    action_dim: int = later(0)


class FeatureBlock(Protocol):
    """A plug-in between the critic's inputs and its head; an nn.Module that is built with `sizes`."""

    inputs: tuple[str, ...]
    """Names of the arrays it reads; `opentau.value.served` offers them."""
    width: int
    """W."""
    frames_at_once: int
    """Frames that it reads at a time when values are asked for."""

    def calibrate(self, inputs: Mapping[str, Tensor]) -> None:
        """Take what is constant from the frames to be fitted, before the first update."""
        ...

    def __call__(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return float32 [B, W]."""
        ...


class FrozenPolicyFeatures(nn.Module):
    """The pooled prefix of a frozen policy, the encoded state and the prompt, standardised and side by side.

    The cheap block: its first input is computed once per frame and cached. A trained vision-language backbone is another
    block of the same signature, with pixels and tokens among its inputs (`opentau.value.vision_language`).
    """

    inputs = ("prefix", "state", "prompt")
    """prefix: float32 [B, P]; state: float32 [B, S]; prompt: int64 [B], -1 for one not seen in fitting."""
    frames_at_once = 4096

    def __init__(self, sizes: InputSizes, *, prompt_dim: int = 8, noise: float = 0.0) -> None:
        super().__init__()
        self.noise = noise
        self.prefix_scale = Standardise(sizes.prefix_dim)
        self.state_scale = Standardise(sizes.state_dim)
        self.prompt = nn.Embedding(sizes.num_prompts + 1, prompt_dim)
        nn.init.zeros_(self.prompt.weight)
        self.width = sizes.prefix_dim + sizes.state_dim + prompt_dim

    def calibrate(self, inputs: Mapping[str, Tensor]) -> None:
        """Take means and scales from the frames to be fitted."""
        self.prefix_scale.calibrate(inputs["prefix"])
        self.state_scale.calibrate(inputs["state"])

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return float32 [B, W]."""
        prefix_BP, state_BS = self.prefix_scale(inputs["prefix"]), self.state_scale(inputs["state"])
        seen_BX = torch.cat([prefix_BP, state_BS], dim=1)
        if self.training and self.noise > 0:
            seen_BX = seen_BX + self.noise * torch.randn_like(seen_BX)
        return torch.cat([seen_BX, self.prompt(inputs["prompt"] + 1)], dim=1)


class ChunkFeatures(nn.Module):
    """What `FrozenPolicyFeatures` reads and, beside it, the actions that are played next.

    A critic with this block predicts what comes of an observation and a chunk, Q of whoever acted, not V of the observation.
    """

    inputs = (*FrozenPolicyFeatures.inputs, "chunk")
    """chunk: float32 [B, K, A], encoded."""
    frames_at_once = FrozenPolicyFeatures.frames_at_once

    def __init__(self, sizes: InputSizes, *, prompt_dim: int = 8, noise: float = 0.0) -> None:
        super().__init__()
        num_numbers = sizes.num_actions * sizes.action_dim
        self.seen = FrozenPolicyFeatures(sizes, prompt_dim=prompt_dim, noise=noise)
        self.chunk_scale = Standardise(num_numbers)
        self.width = self.seen.width + num_numbers

    def calibrate(self, inputs: Mapping[str, Tensor]) -> None:
        """Take means and scales from the frames to be fitted."""
        self.seen.calibrate(inputs)
        self.chunk_scale.calibrate(inputs["chunk"].flatten(1))

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return float32 [B, W]."""
        return torch.cat([self.seen(inputs), self.chunk_scale(inputs["chunk"].flatten(1))], dim=1)


class Standardise(nn.Module):
    """Shift and scale each dimension to mean 0 and standard deviation 1 of the calibration frames; constants go to 0."""

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))

    def calibrate(self, x_FD: Tensor) -> None:
        self.mean.copy_(x_FD.mean(dim=0))
        std_D = x_FD.std(dim=0, unbiased=False)
        self.scale.copy_(torch.where(std_D > 1e-6, 1 / std_D.clamp(min=1e-6), torch.zeros_like(std_D)))

    def forward(self, x_BD: Tensor) -> Tensor:
        return (x_BD - self.mean) * self.scale
