"""π0 and π0.5 at their published sizes, as values of the one configuration."""

from __future__ import annotations

import dataclasses
from typing import Any

from opentau.models.config import TransformerConfig, ViTTowerConfig
from opentau.policies.config import FastIds, IndicatorPlace, PolicyConfig, StateInput, chosen

PALIGEMMA_VOCABULARY = 257_152
"""Words, 1024 locations and 128 segments, rounded up as PaliGemma's embedding is."""
FAST_VOCABULARY = 2048
"""Ids of the published action tokenizer."""
MAX_DIM = 32
"""Numbers of an action, and of π0's state; robots with fewer are filled up."""
PI0_TEMPLATE = "{prompt}\n"
PI05_TEMPLATE = "Task: {prompt}, State: {state};\nAction: "
PI0_PROMPT_TOKENS, PI05_PROMPT_TOKENS = 48, 200

SIGLIP = ViTTowerConfig(image_size=224, patch_size=14, width=1152, depth=27, num_heads=16, mlp_dim=4304)
"""So400m/14 at 224 pixels."""
GEMMA_2B = TransformerConfig(width=2048, depth=18, num_heads=8, num_kv_heads=1, head_dim=256, mlp_dim=16_384)
GEMMA_300M = dataclasses.replace(GEMMA_2B, width=1024, mlp_dim=4096)


def pi0(
    *,
    cameras: tuple[str, ...],
    state_dim: int,
    action_dim: int,
    action_horizon: int = 50,
    max_prompt_tokens: int = PI0_PROMPT_TOKENS,
    dropout: float = 0.0,
    has_indicator_text: bool = True,
    has_indicator_embedding: bool = True,
    indicator_place: str = IndicatorPlace.BLOCK,
) -> PolicyConfig:
    """Return π0 (arXiv:2410.24164): PaliGemma 3B at 224 pixels, an expert of 300M, the state as a token, z-scores.

    Its weights start at random; `policy=pretrained` starts from a checkpoint.
    """
    return _paligemma(
        cameras=cameras,
        state_dim=max(MAX_DIM, state_dim),
        action_dim=action_dim,
        action_horizon=action_horizon,
        max_prompt_tokens=max_prompt_tokens,
        dropout=dropout,
        has_indicator_text=has_indicator_text,
        has_indicator_embedding=has_indicator_embedding,
        indicator_place=chosen(IndicatorPlace, indicator_place, name="indicator_place"),
        is_adaptive=False,
    )


def pi05(
    *,
    cameras: tuple[str, ...],
    state_dim: int,
    action_dim: int,
    action_horizon: int = 50,
    max_prompt_tokens: int = PI05_PROMPT_TOKENS,
    dropout: float = 0.0,
    max_committed: int = 0,
    has_indicator_text: bool = True,
    has_indicator_embedding: bool = True,
    indicator_place: str = IndicatorPlace.BLOCK,
) -> PolicyConfig:
    """Return π0.5 (arXiv:2504.16054): as π0, but the state in the prompt's text, quantiles, and flow time in adaptive norms.

    Its weights start at random; `policy=pretrained` starts from a checkpoint.
    """
    return _paligemma(
        cameras=cameras,
        state_dim=state_dim,
        action_dim=action_dim,
        action_horizon=action_horizon,
        max_prompt_tokens=max_prompt_tokens,
        dropout=dropout,
        max_committed=max_committed,
        has_indicator_text=has_indicator_text,
        has_indicator_embedding=has_indicator_embedding,
        indicator_place=chosen(IndicatorPlace, indicator_place, name="indicator_place"),
        is_adaptive=True,
    )


def _paligemma(
    *, cameras: tuple[str, ...], action_dim: int, dropout: float, is_adaptive: bool, max_committed: int = 0, **sizes: Any
) -> PolicyConfig:
    return PolicyConfig(
        cameras=tuple(cameras),
        vision=SIGLIP,
        backbone=dataclasses.replace(GEMMA_2B, dropout=dropout),
        expert=dataclasses.replace(GEMMA_300M, dropout=dropout, is_adaptive=is_adaptive),
        action_dim=max(MAX_DIM, action_dim),
        text_vocab_size=PALIGEMMA_VOCABULARY,
        fast_vocab_size=FAST_VOCABULARY,
        max_fast_tokens=256,
        prompt_template=PI05_TEMPLATE if is_adaptive else PI0_TEMPLATE,
        state_input=StateInput.TEXT if is_adaptive else StateInput.EXPERT,
        has_camera_embedding=False,
        max_committed=max_committed,
        fast_ids=FastIds.VOCABULARY,
        has_padding_noise=True,
        codec="quantile" if is_adaptive else "zscore",
        lowest_state_bin=-1,
        **sizes,
    )
