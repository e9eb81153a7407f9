"""π0, π0.5 and π0.6 at their published sizes, as values of the one configuration."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from opentau.data.images import ImageFit
from opentau.errors import OptionError, near_matches
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
MAX_FAST_TOKENS = 256

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """What one member of the family has that others have not."""

    vision: ViTTowerConfig
    backbone: TransformerConfig
    expert: TransformerConfig
    text_vocab_size: int
    max_prompt_tokens: int
    prompt_template: str = PI05_TEMPLATE
    state_input: StateInput = StateInput.TEXT
    codec: str = "quantile"


MEMBERS = {
    # arXiv:2410.24164: PaliGemma 3B at 224 pixels, an expert of 300M, the state as a token of the expert's, z-scores.
    "pi0": Member(
        vision=SIGLIP,
        backbone=GEMMA_2B,
        expert=GEMMA_300M,
        text_vocab_size=PALIGEMMA_VOCABULARY,
        max_prompt_tokens=PI0_PROMPT_TOKENS,
        prompt_template=PI0_TEMPLATE,
        state_input=StateInput.EXPERT,
        codec="zscore",
    ),
    # arXiv:2504.16054: as π0, but the state in the prompt's text, quantiles, and flow time in adaptive norms.
    "pi05": Member(
        vision=SIGLIP,
        backbone=GEMMA_2B,
        expert=dataclasses.replace(GEMMA_300M, is_adaptive=True),
        text_vocab_size=PALIGEMMA_VOCABULARY,
        max_prompt_tokens=PI05_PROMPT_TOKENS,
    ),
    # arXiv:2511.14759: as π0.5, but Gemma 3 4B at 448 pixels and an expert of 860M; no weights are published. Its layers see
    # all tokens: Gemma 3's window over local layers would keep the images of several cameras from each other.
    "pi06": Member(
        vision=SIGLIP_448,
        backbone=GEMMA3_4B,
        expert=dataclasses.replace(GEMMA_860M, is_adaptive=True),
        text_vocab_size=GEMMA3_VOCABULARY,
        max_prompt_tokens=PI06_PROMPT_TOKENS,
    ),
}


def published(
    member: str,
    *,
    cameras: tuple[str, ...],
    state_dim: int,
    action_dim: int,
    action_horizon: int = 50,
    max_prompt_tokens: int | None = None,
    dropout: float = 0.0,
    max_committed: int = 0,
    has_indicator_text: bool = True,
    has_indicator_embedding: bool = True,
    indicator_place: str = IndicatorPlace.BLOCK,
    image_fit: str = ImageFit.CENTRED,
) -> PolicyConfig:
    """Return a member of the family at its published size; an unknown one raises `OptionError`.

    Its weights start at random; `policy=pretrained` starts from a checkpoint.
    """
    if member not in MEMBERS:
        raise OptionError(f"unknown policy.args.member {member!r}.{near_matches(member, MEMBERS)}")
    own = MEMBERS[member]
    if max_committed and not own.expert.is_adaptive:
        raise OptionError(
            f"max_committed is {max_committed}, but {member} has one flow time for a whole chunk; set it 0, or use pi05 or pi06"
        )
    return PolicyConfig(
        cameras=tuple(cameras),
        vision=own.vision,
        backbone=dataclasses.replace(own.backbone, dropout=dropout),
        expert=dataclasses.replace(own.expert, dropout=dropout),
        state_dim=max(MAX_DIM, state_dim) if own.state_input.has_weights else state_dim,
        action_dim=max(MAX_DIM, action_dim),
        action_horizon=action_horizon,
        text_vocab_size=own.text_vocab_size,
        fast_vocab_size=FAST_VOCABULARY,
        max_prompt_tokens=max_prompt_tokens or own.max_prompt_tokens,
        max_fast_tokens=MAX_FAST_TOKENS,
        prompt_template=own.prompt_template,
        state_input=own.state_input,
        has_camera_embedding=False,
        has_indicator_text=has_indicator_text,
        has_indicator_embedding=has_indicator_embedding,
        indicator_place=chosen(IndicatorPlace, indicator_place, name="indicator_place"),
        max_committed=max_committed,
        fast_ids=FastIds.VOCABULARY,
        has_padding_noise=True,
        codec=own.codec,
        lowest_state_bin=-1,
        image_fit=chosen(ImageFit, image_fit, name="image_fit"),
    )
