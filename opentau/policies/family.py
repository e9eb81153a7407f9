"""π0, π0.5 and π0.6 at their published sizes, as values of the one configuration."""

from __future__ import annotations

import dataclasses
from typing import Any

from opentau.models.config import TransformerConfig, ViTTowerConfig
from opentau.policies.config import FastIds, IndicatorPlace, PolicyConfig, StateInput, chosen

PALIGEMMA_VOCABULARY = 257_152
"""Words, 1024 locations and 128 segments, rounded up as PaliGemma's embedding is."""
GEMMA3_VOCABULARY = 262_208
"""Words and the rows for images that Gemma 3's embedding holds behind them."""
FAST_VOCABULARY = 2048
"""Ids of the published action tokenizer."""
MAX_DIM = 32
"""Numbers of an action, and of π0's state; robots with fewer are filled up."""
PI0_TEMPLATE = "{prompt}\n"
PI05_TEMPLATE = "Task: {prompt}, State: {state};\nAction: "
PI0_PROMPT_TOKENS, PI05_PROMPT_TOKENS, PI06_PROMPT_TOKENS = 48, 200, 256

SIGLIP = ViTTowerConfig(image_size=224, patch_size=14, width=1152, depth=27, num_heads=16, mlp_dim=4304)
"""So400m/14 at 224 pixels."""
GEMMA_2B = TransformerConfig(width=2048, depth=18, num_heads=8, num_kv_heads=1, head_dim=256, mlp_dim=16_384)
GEMMA_300M = dataclasses.replace(GEMMA_2B, width=1024, mlp_dim=4096)

SIGLIP_448 = dataclasses.replace(SIGLIP, image_size=448, pool_size=2, projector="normed")
"""As Gemma 3 reads it, at 448 pixels: 256 tokens of an image."""
GEMMA3_4B = TransformerConfig(
    width=2560,
    depth=34,
    num_heads=8,
    num_kv_heads=4,
    head_dim=256,
    mlp_dim=10_240,
    rope_theta=1_000_000.0,
    rope_scale=8.0,
    num_local_layers=5,
    has_query_key_norm=True,
    has_output_norm=True,
)
GEMMA_860M = dataclasses.replace(GEMMA3_4B, width=1024, mlp_dim=4096, has_query_key_norm=False, has_output_norm=False)
"""Layers of the first Gemma beside those of Gemma 3 4B; with the modulation of its norms it has 860 million parameters."""


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
    return _member(
        vision=SIGLIP,
        backbone=GEMMA_2B,
        expert=GEMMA_300M,
        text_vocab_size=PALIGEMMA_VOCABULARY,
        prompt_template=PI0_TEMPLATE,
        state_input=StateInput.EXPERT,
        codec="zscore",
        cameras=cameras,
        state_dim=max(MAX_DIM, state_dim),
        action_dim=action_dim,
        action_horizon=action_horizon,
        max_prompt_tokens=max_prompt_tokens,
        dropout=dropout,
        has_indicator_text=has_indicator_text,
        has_indicator_embedding=has_indicator_embedding,
        indicator_place=indicator_place,
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
    return _member(
        vision=SIGLIP,
        backbone=GEMMA_2B,
        expert=dataclasses.replace(GEMMA_300M, is_adaptive=True),
        text_vocab_size=PALIGEMMA_VOCABULARY,
        cameras=cameras,
        state_dim=state_dim,
        action_dim=action_dim,
        action_horizon=action_horizon,
        max_prompt_tokens=max_prompt_tokens,
        dropout=dropout,
        max_committed=max_committed,
        has_indicator_text=has_indicator_text,
        has_indicator_embedding=has_indicator_embedding,
        indicator_place=indicator_place,
    )


def pi06(
    *,
    cameras: tuple[str, ...],
    state_dim: int,
    action_dim: int,
    action_horizon: int = 50,
    max_prompt_tokens: int = PI06_PROMPT_TOKENS,
    dropout: float = 0.0,
    max_committed: int = 0,
    has_indicator_text: bool = True,
    has_indicator_embedding: bool = True,
    indicator_place: str = IndicatorPlace.BLOCK,
) -> PolicyConfig:
    """Return π0.6 (arXiv:2511.14759): as π0.5, but Gemma 3 4B at 448 pixels and an expert of 860M.

    No weights of it are published; they start at random. Its layers see all tokens: Gemma 3's window over local layers would
    keep the images of several cameras from each other.
    """
    return _member(
        vision=SIGLIP_448,
        backbone=GEMMA3_4B,
        expert=dataclasses.replace(GEMMA_860M, is_adaptive=True),
        text_vocab_size=GEMMA3_VOCABULARY,
        cameras=cameras,
        state_dim=state_dim,
        action_dim=action_dim,
        action_horizon=action_horizon,
        max_prompt_tokens=max_prompt_tokens,
        dropout=dropout,
        max_committed=max_committed,
        has_indicator_text=has_indicator_text,
        has_indicator_embedding=has_indicator_embedding,
        indicator_place=indicator_place,
    )


def _member(
    *,
    cameras: tuple[str, ...],
    backbone: TransformerConfig,
    expert: TransformerConfig,
    action_dim: int,
    dropout: float,
    indicator_place: str,
    prompt_template: str = PI05_TEMPLATE,
    state_input: StateInput = StateInput.TEXT,
    **others: Any,
) -> PolicyConfig:
    return PolicyConfig(
        cameras=tuple(cameras),
        backbone=dataclasses.replace(backbone, dropout=dropout),
        expert=dataclasses.replace(expert, dropout=dropout),
        action_dim=max(MAX_DIM, action_dim),
        fast_vocab_size=FAST_VOCABULARY,
        max_fast_tokens=256,
        prompt_template=prompt_template,
        state_input=state_input,
        has_camera_embedding=False,
        fast_ids=FastIds.VOCABULARY,
        has_padding_noise=True,
        lowest_state_bin=-1,
        indicator_place=chosen(IndicatorPlace, indicator_place, name="indicator_place"),
        **others,
    )
