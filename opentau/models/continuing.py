"""Continuing committed actions with a flow that was not trained to: guided real-time chunking (arXiv:2506.07339)."""

# Shapes: B batch, H actions of a chunk, A action dimensions; the time axis X is 1 (shared by the chunk) or H.

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from opentau.models.flow import integrate

Velocity = Callable[[Tensor, Tensor], Tensor]
"""From x [B, H, A] and times [B, X] to [B, H, A]."""


def continued(
    velocity: Velocity,
    *,
    noise_BHA: Tensor,
    num_steps: int,
    wanted_BHA: Tensor,
    weight_BH: Tensor,
    is_committed_BH: Tensor,
    limit: float,
) -> Tensor:
    """Follow the velocity from noise to chunks that continue what is wanted, [B, H, A].

    Committed actions come out as they went in; further wanted ones are approached as far as their weight says. Rows without
    weight are drawn as they would be without guidance.
    """
    guided = towards(velocity, wanted_BHA=wanted_BHA, weight_BH=weight_BH, limit=limit)
    drawn_BHA = integrate(guided, noise_BHA=noise_BHA, num_steps=num_steps)
    return torch.where(is_committed_BH[..., None], wanted_BHA, drawn_BHA)


def towards(velocity: Velocity, *, wanted_BHA: Tensor, weight_BH: Tensor, limit: float) -> Velocity:
    """Return the velocity guided by the pseudo-inverse; the paper counts flow time the other way round.

    The chunk that a point leads to is x - t v; what it lacks of the wanted one, carried back through the model, is added to
    where the flow goes, times (t² + (1 - t)²) / (t (1 - t)) but at most `limit`.
    """

    def guided(x_BHA: Tensor, time_BX: Tensor) -> Tensor:
        time_BX1 = time_BX[..., None]
        with torch.enable_grad():
            point_BHA = x_BHA.detach().requires_grad_()
            velocity_BHA = velocity(point_BHA, time_BX)
            chunk_BHA = point_BHA - time_BX1 * velocity_BHA
        lacking_BHA = weight_BH[..., None] * (wanted_BHA - chunk_BHA.detach())
        (pull_BHA,) = torch.autograd.grad(chunk_BHA, point_BHA, lacking_BHA)
        strength_BX1 = (time_BX1.square() + (1 - time_BX1).square()) / (time_BX1 * (1 - time_BX1))
        return velocity_BHA.detach() - strength_BX1.clamp_max(limit) * pull_BHA

    return guided


def continuation_weights(num_committed: int, *, horizon: int, num_fresh: int) -> np.ndarray:
    """Return how much each action of a chunk must be like the last chunk's, float32 [H].

    1 for committed ones, which will play before the answer arrives; then falling, exponentially, up to the last `num_fresh`,
    of which the last chunk knows nothing: 0.
    """
    if not 0 <= num_committed <= horizon - num_fresh <= horizon:
        raise ValueError(
            f"{num_committed} committed and {num_fresh} fresh actions do not fit into a chunk of {horizon}; "
            "their sum must not exceed it"
        )
    index_H = np.arange(horizon)
    falling_H = (horizon - num_fresh - index_H) / (horizon - num_fresh - num_committed + 1)
    soft_H = falling_H * np.expm1(falling_H) / (math.e - 1)
    return np.where(index_H < num_committed, 1.0, np.where(falling_H > 0, soft_H, 0.0)).astype(np.float32)
