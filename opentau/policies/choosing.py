"""Which of several chunks for one observation is played."""

# Shapes: B observations, N candidates, H actions of a chunk, A action dimensions.

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from opentau.errors import OptionError
from opentau.policies.prefix import Prefix
from opentau.types import PolicyRequest


class ChunkScorer(Protocol):
    """Says how good candidates are, encoded in the dimensions of the served robot."""

    def __call__(self, requests: Sequence[PolicyRequest], prefix: Prefix, candidates_BNHA: Tensor) -> Tensor:
        """Return scores, [B, N], higher for better ones."""
        ...


def agreement(requests: Sequence[PolicyRequest], prefix: Prefix, candidates_BNHA: Tensor) -> Tensor:
    """Return minus the mean distance to the other candidates, [B, N] (a `ChunkScorer`): the best is nearest to all others."""
    count = candidates_BNHA.shape[1]
    apart_BNNHA = candidates_BNHA[:, :, None] - candidates_BNHA[:, None]
    return -apart_BNNHA.square().sum(dim=(-2, -1)).sqrt().sum(dim=-1) / (count - 1)


def unchosen(requests: Sequence[PolicyRequest], prefix: Prefix, candidates_BNHA: Tensor) -> Tensor:
    """Raise `OptionError` (a `ChunkScorer`): stands for a choice by value until the critic is given."""
    raise OptionError("inference.chosen_by is 'value', but no critic was given; give one with VLAPolicy.choose_by")


def best(candidates_BNHA: Tensor, score_BN: Tensor) -> Tensor:
    """Return the candidate with the highest score, the first of equal ones, [B, H, A]."""
    row_B = torch.arange(len(score_BN), device=score_BN.device)
    return candidates_BNHA[row_B, score_BN.argmax(dim=1)]
