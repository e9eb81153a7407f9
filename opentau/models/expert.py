"""The action expert: turns noisy actions into flow velocities while attending, layer by layer, to what the backbone offers."""

# Shapes: B batch, H actions of a chunk, A action dimensions, S state dimensions, C context tokens, W width of the expert,
# T tokens of the expert (H, and one for a state token); the time axis X is 1 (shared by the chunk) or H.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opentau.models.attention import KeysValues
from opentau.models.config import TransformerConfig
from opentau.models.flow import time_features
from opentau.models.masks import additive, attention_mask, block_ids
from opentau.models.transformer import Rotations, Transformer


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertContext:
    """All that the expert knows of an observation: the same at every flow time, so it is made once."""

    offered: Sequence[KeysValues]
    """The backbone's keys and values of every layer."""
    mask_B1TC: Tensor
    """Over the context, then the expert's tokens."""
    rotations: Rotations
    indicator_B1W: Tensor | None
    """Added to every action; None where the expert has no indicator embedding."""
    state_B1W: Tensor | None
    """A token before the actions; None where the state enters elsewhere."""


class ActionExpert(nn.Module):
    """Predicts the velocity of a chunk.

    Flow time enters through adaptive norms (π0.5) or, where the transformer is not adaptive, beside every action (π0). A state
    token of its own before the actions is π0's; the indicator embedding starts at zero and is added to every action.
    """

    def __init__(
        self, config: TransformerConfig, *, action_dim: int, action_horizon: int, state_dim: int = 0, has_indicator: bool = True
    ) -> None:
        super().__init__()
        width = config.width
        self.action_horizon = action_horizon
        self.action_in = nn.Linear(action_dim, width)
        self.state_in = nn.Linear(state_dim, width) if state_dim else None
        self.indicator_embedding = nn.Embedding(2, width) if has_indicator else None
        self.time_mlp_in = nn.Linear(width if config.is_adaptive else 2 * width, width)
        self.time_mlp_out = nn.Linear(width, width)
        self.transformer = Transformer(config)
        self.action_out = nn.Linear(width, action_dim)

    def context(
        self, offered: Sequence[KeysValues], *, is_valid_BC: Tensor, indicator_B: Tensor, state_BS: Tensor
    ) -> ExpertContext:
        """Return what the expert attends to and is told; an indicator of -1 (absent) adds nothing."""
        indicator_B1W = None
        if self.indicator_embedding is not None:
            is_present_B1 = (indicator_B >= 0)[:, None]
            indicator_B1W = (self.indicator_embedding(indicator_B.clamp_min(0)) * is_present_B1)[:, None]
        state_B1W = None if self.state_in is None else self.state_in(state_BS)[:, None]
        lengths = [self.action_horizon] if state_B1W is None else [1, self.action_horizon]
        blocks_T = block_ids(lengths, first=1, device=is_valid_BC.device)
        allowed_BTC = attention_mask(
            query_blocks_Q=blocks_T,
            key_blocks_K=F.pad(blocks_T, (is_valid_BC.shape[1], 0)),
            key_valid_BK=F.pad(is_valid_BC, (0, len(blocks_T)), value=True),
        )
        positions_BT = is_valid_BC.sum(dim=1, keepdim=True) + torch.arange(len(blocks_T), device=is_valid_BC.device)
        return ExpertContext(
            offered=offered,
            mask_B1TC=additive(allowed_BTC),
            rotations=self.transformer.rotations(positions_BT),
            indicator_B1W=indicator_B1W,
            state_B1W=state_B1W,
        )

    def forward(self, noisy_BHA: Tensor, *, time_BX: Tensor, context: ExpertContext) -> Tensor:
        """Return velocities, [B, H, A]."""
        tokens_BTW, condition_BXW = self._with_time(self.action_in(noisy_BHA), time_BX)
        if context.indicator_B1W is not None:
            tokens_BTW = tokens_BTW + context.indicator_B1W
        if context.state_B1W is not None:
            tokens_BTW = torch.cat((context.state_B1W, tokens_BTW), dim=1)
            if condition_BXW is not None and condition_BXW.shape[1] > 1:
                condition_BXW = torch.cat((condition_BXW[:, -1:], condition_BXW), dim=1)
        read_BTW = self.transformer(
            tokens_BTW,
            rotations=context.rotations,
            mask_B1TC=context.mask_B1TC,
            context=context.offered,
            condition_BTZ=condition_BXW,
        )
        return self.action_out(read_BTW[:, -self.action_horizon :])

    def _with_time(self, tokens_BHW: Tensor, time_BX: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the tokens and the condition of adaptive norms, where there are some."""
        features_BXW = time_features(time_BX, dim=tokens_BHW.shape[-1]).to(tokens_BHW.dtype)
        if self.transformer.config.is_adaptive:
            return tokens_BHW, F.silu(self.time_mlp_out(F.silu(self.time_mlp_in(features_BXW))))
        both_BHV = torch.cat((tokens_BHW, features_BXW.expand_as(tokens_BHW)), dim=-1)
        return self.time_mlp_out(F.silu(self.time_mlp_in(both_BHV))), None
