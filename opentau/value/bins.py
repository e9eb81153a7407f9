"""Values as distributions over bins: what stands for a return in the cross-entropy, and the mean that is the value."""

from __future__ import annotations

import torch
from torch import Tensor

from opentau.errors import OptionError, near_matches

# Shapes: B batch, M members of an ensemble, N bins.

LOW, HIGH = -1.0, 0.0


def bin_centers(num_bins: int) -> Tensor:
    """Return the values of the bins, float32 [N], from -1 to 0."""
    return torch.linspace(LOW, HIGH, num_bins)


def target_distribution(returns_B: Tensor, *, kind: str, num_bins: int, sigma: float) -> Tensor:
    """Return the distribution that stands for each return in [-1, 0], float32 [B, N]; `sigma` is in bins."""
    if kind not in TARGETS:
        raise OptionError(f"unknown value.critic.target {kind!r}.{near_matches(kind, TARGETS)}")
    position_B = (returns_B.clamp(LOW, HIGH) - LOW) * (num_bins - 1) / (HIGH - LOW)
    return TARGETS[kind](position_B, num_bins, sigma)


def expected_value(logits_MBN: Tensor) -> Tensor:
    """Return the means of predicted distributions, float32 [M, B] in [-1, 0]."""
    probabilities_MBN = torch.softmax(logits_MBN.float(), dim=-1)
    return probabilities_MBN @ bin_centers(logits_MBN.shape[-1]).to(logits_MBN.device)


def _one_hot(position_B: Tensor, num_bins: int, sigma: float) -> Tensor:
    """The nearest bin (π*0.6, equation 1)."""
    return torch.nn.functional.one_hot(position_B.round().long(), num_bins).float()


def _two_hot(position_B: Tensor, num_bins: int, sigma: float) -> Tensor:
    """The two nearest bins in proportion, so that the mean is exact."""
    distance_BN = (position_B[:, None] - torch.arange(num_bins, device=position_B.device)).abs()
    return (1 - distance_BN).clamp(min=0)


def _hl_gauss(position_B: Tensor, num_bins: int, sigma: float) -> Tensor:
    """A normal distribution around the return, cut off at the outer bins (Farebrother et al. 2024, arXiv:2403.03950)."""
    edges = torch.arange(num_bins + 1, device=position_B.device) - 0.5
    below_BE = torch.special.ndtr((edges - position_B[:, None]) / sigma)
    mass_BN = below_BE[:, 1:] - below_BE[:, :-1]
    return mass_BN / mass_BN.sum(dim=1, keepdim=True)


TARGETS = {"hl_gauss": _hl_gauss, "two_hot": _two_hot, "one_hot": _one_hot}
