"""Flow matching between noise (t = 1) and actions (t = 0), with one time per action so that clean prefixes are possible."""

# Shapes: B batch, H actions of a chunk, A action dimensions; the time axis X is 1 (shared by the chunk) or H.

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

# Flow time is Beta(1.5, 1), which favours noisy inputs, squeezed into [0.001, 1] (π0, arXiv:2410.24164, and openpi).
BETA = 1.5
TIME_SCALE = 0.999
TIME_OFFSET = 0.001


def sample_time(
    shape: tuple[int, ...], *, generator: torch.Generator | None = None, device: torch.device | None = None
) -> Tensor:
    """Draw flow times, float32 of this shape in [0.001, 1], by inverting the distribution function x^1.5 of Beta(1.5, 1)."""
    uniform = torch.rand(shape, generator=generator, device=device)
    return TIME_SCALE * uniform ** (1.0 / BETA) + TIME_OFFSET


def noisy_action(*, action_BHA: Tensor, noise_BHA: Tensor, time_BX: Tensor) -> Tensor:
    """Return the point of the straight path at each time: t · noise + (1 - t) · action, [B, H, A]."""
    return torch.lerp(action_BHA, noise_BHA, time_BX[..., None].expand_as(action_BHA))


def target_velocity(*, action_BHA: Tensor, noise_BHA: Tensor) -> Tensor:
    """Return d/dt of the path, noise - action, [B, H, A]."""
    return noise_BHA - action_BHA


def time_features(time_BX: Tensor, *, dim: int, min_period: float = 4e-3, max_period: float = 4.0) -> Tensor:
    """Return sines and cosines of a time in [0, 1], float32 [B, X, dim], periods spread geometrically (openpi's values)."""
    fraction = torch.linspace(0.0, 1.0, dim // 2, device=time_BX.device, dtype=torch.float64)
    frequency = 2.0 * math.pi / (min_period * (max_period / min_period) ** fraction)
    angle_BXF = time_BX[..., None].double() * frequency
    return torch.cat((angle_BXF.sin(), angle_BXF.cos()), dim=-1).float()


def integrate(
    velocity: Callable[[Tensor, Tensor], Tensor],
    *,
    noise_BHA: Tensor,
    num_steps: int,
    committed_BHA: Tensor | None = None,
    is_committed_BH: Tensor | None = None,
) -> Tensor:
    """Follow the velocity from noise to actions, [B, H, A], in equal Euler steps.

    `velocity` maps (x [B, H, A], time [B, X]) to [B, H, A]. Committed actions are given clean, at time 0, in every step, and
    come out as they went in (training-time real-time chunking, arXiv:2512.05964).
    """
    if is_committed_BH is None or committed_BHA is None:
        x_BHA = noise_BHA
        for step in range(num_steps):
            time_B1 = x_BHA.new_full((len(x_BHA), 1), 1.0 - step / num_steps)
            x_BHA = x_BHA - velocity(x_BHA, time_B1) / num_steps
        return x_BHA
    held_BH1 = is_committed_BH[..., None]
    x_BHA = torch.where(held_BH1, committed_BHA, noise_BHA)
    for step in range(num_steps):
        time_BH = (~is_committed_BH).float() * (1.0 - step / num_steps)
        x_BHA = torch.where(held_BH1, committed_BHA, x_BHA - velocity(x_BHA, time_BH) / num_steps)
    return x_BHA
