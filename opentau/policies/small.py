"""`small`: SmolLM2's first layers and EfficientNet-Lite0's first stages under an action expert; fetched by `opentau parts`."""

from __future__ import annotations

import dataclasses
import enum
from pathlib import Path

from opentau.checkpoint import read_manifest
from opentau.errors import OptionError
from opentau.models.config import EfficientNetLiteConfig, TransformerConfig
from opentau.policies.config import FastIds, IndicatorPlace, PolicyConfig, Words, chosen
from opentau.policies.parts.store import LANGUAGE, parts_dir, require_parts
from opentau.policies.pretrained import Pretrained

FRESH = (
    "expert.*",
    "state_in.*",
    "camera_embedding.*",
    "vision.norm.*",
    "vision.projection.*",
    "vision.position_embedding",
)
"""What the parts do not hold."""
FAST_VOCABULARY = 1024
MAX_FAST_TOKENS, MAX_ANSWER_TOKENS = 64, 64
"""Answers spell locations in characters, a box in about thirty tokens."""


class Weights(enum.StrEnum):
    """What the weights start as."""

    PARTS = "parts"
    """The pre-trained parts; what joins them is random."""
    RANDOM = "random"
    """All random: the control that says what the parts are worth."""


def small(
    *,
    cameras: tuple[str, ...],
    state_dim: int,
    action_dim: int,
    image_size: int = 128,
    depth: int = 8,
    expert_width: int = 256,
    action_horizon: int = 16,
    max_prompt_tokens: int = 32,
    dropout: float = 0.0,
    max_committed: int = 0,
    has_indicator_text: bool = True,
    has_indicator_embedding: bool = True,
    indicator_place: str = IndicatorPlace.BLOCK,
    weights: str = Weights.PARTS,
    parts: str | None = None,
) -> Pretrained:
    """Return a start of about seventy million parameters that knows words and pictures before it sees a robot.

    `depth` counts SmolLM2's layers, from the first on. `parts` is a folder of parts, by default the cache's; the words come
    from there even where the weights are random. Missing parts raise `CheckpointError`, a depth beyond them `OptionError`.
    """
    folder = parts_dir() if parts is None else Path(parts).expanduser()
    described = require_parts(folder)[LANGUAGE]
    sizes = described["sizes"]
    if not 1 <= depth <= sizes["depth"]:
        raise OptionError(f"policy.args.depth is {depth}; {described['name']} has {sizes['depth']} layers: choose 1 to that")
    backbone = TransformerConfig(**sizes | {"depth": depth}, activation="silu", dropout=dropout)
    expert = dataclasses.replace(backbone, width=expert_width, mlp_dim=4 * expert_width, is_adaptive=True, gate_offset=1.0)
    config = PolicyConfig(
        cameras=tuple(cameras),
        vision=EfficientNetLiteConfig(image_size=image_size),
        backbone=backbone,
        expert=expert,
        state_dim=state_dim,
        action_dim=action_dim,
        action_horizon=action_horizon,
        text_vocab_size=described["words"],
        fast_vocab_size=FAST_VOCABULARY,
        max_prompt_tokens=max_prompt_tokens,
        max_fast_tokens=MAX_FAST_TOKENS,
        max_answer_tokens=MAX_ANSWER_TOKENS,
        max_committed=max_committed,
        has_indicator_text=has_indicator_text,
        has_indicator_embedding=has_indicator_embedding,
        indicator_place=chosen(IndicatorPlace, indicator_place, name="indicator_place"),
        words=Words.PUBLISHED,
        fast_ids=FastIds.VOCABULARY,
        has_scaled_words=False,
    )
    is_random = chosen(Weights, weights, name="policy.args.weights") is Weights.RANDOM
    return Pretrained(
        config=config,
        checkpoint=folder,
        checkpoint_id=str(read_manifest(folder)["id"]),
        fresh=("*",) if is_random else FRESH,
    )
