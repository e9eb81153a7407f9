"""Who may attend to whom: masks built from block numbers."""

# Shapes: B batch, Q queries, K keys.

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def block_ids(lengths: Sequence[int], *, first: int = 0, device: torch.device | None = None) -> Tensor:
    """Return the block number of every token, int64 [sum(lengths)], for consecutive blocks of these lengths.

    The numbers are the running count of block starts, which is how openpi's cumulative attention-mask rule numbers tokens:
    ``[n]`` is bidirectional, ``[n, 1, 1]`` a prefix followed by causal tokens.
    """
    numbers = torch.arange(first, first + len(lengths), device=device)
    # With the size of its result known, nothing has to be read back from the device, nor be real (FakeTensorMode).
    repeats = torch.tensor(list(lengths), dtype=torch.int64, device=device)
    return numbers.repeat_interleave(repeats, output_size=sum(lengths))


def attention_mask(*, query_blocks_Q: Tensor, key_blocks_K: Tensor, key_valid_BK: Tensor) -> Tensor:
    """Return bool [B, Q, K], true where a query may look: at valid keys of its own and of earlier blocks.

    Queries that are padding themselves look like their block does, so that no row is empty; nobody looks back at them.
    """
    allowed_QK = key_blocks_K[None, :] <= query_blocks_Q[:, None]
    return allowed_QK[None] & key_valid_BK[:, None, :]


def additive(allowed_BQK: Tensor) -> Tensor:
    """Return the mask as attention adds it to its scores, float32 [B, 1, Q, K]: 0 where allowed, -inf elsewhere."""
    return torch.zeros(allowed_BQK.shape, device=allowed_BQK.device).masked_fill(~allowed_BQK, -torch.inf)[:, None]


def positions_of(valid_BT: Tensor) -> Tensor:
    """Return rotary positions, int64 [B, T]: valid tokens are counted from zero, padding takes no position."""
    return valid_BT.long().cumsum(dim=1).sub(1).clamp_min(0)
