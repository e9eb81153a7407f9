"""The configuration of a published policy, read off the shapes of its weights."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from opentau.errors import CheckpointError, OptionError
from opentau.models.config import TransformerConfig, ViTTowerConfig
from opentau.policies.config import FastIds, PolicyConfig, StateInput, TextHead, Words
from opentau.policies.family import FAST_VOCABULARY, MAX_FAST_TOKENS, PI0_TEMPLATE, PI05_TEMPLATE
from opentau.policies.published import names

GEMMA_KV_HEADS = 1
"""Of Gemma 2B and its expert; the shapes tell heads and their size apart only together with this."""
SIGLIP_HEADS = {1152: 16}
"""Width of a published tower to its heads, which no shape tells."""


def published_config(
    shapes: Mapping[str, tuple[int, ...]],
    *,
    cameras: tuple[str, ...],
    state_dim: int,
    action_horizon: int,
    max_prompt_tokens: int,
    text_head: TextHead,
    vision_heads: int | None = None,
) -> PolicyConfig:
    """Return the configuration of weights with these canonical names and shapes.

    Whether it is π0 or π0.5 shows in the names. `vision_heads` is needed for towers other than SigLIP So400m. The state of π0.5
    has `state_dim` numbers, written as text; π0's is as wide as its projection.
    """
    is_pi05 = "time_mlp_in.weight" in shapes
    action_width, action_dim = _shape(shapes, "action_in_proj.weight")
    backbone, expert = _stack(shapes, names.LANGUAGE), _stack(shapes, f"{names.CORE}gemma_expert.model.", is_adaptive=is_pi05)
    if action_width != expert.width:
        raise CheckpointError(f"action_in_proj gives {action_width} numbers and the action expert has {expert.width}")
    vocabulary, _ = _shape(shapes, names.EMBEDDING)
    return PolicyConfig(
        cameras=cameras,
        vision=_tower(shapes, heads=vision_heads),
        backbone=backbone,
        expert=expert,
        state_dim=state_dim if is_pi05 else _shape(shapes, "state_proj.weight")[1],
        action_dim=action_dim,
        action_horizon=action_horizon,
        text_vocab_size=vocabulary,
        fast_vocab_size=min(FAST_VOCABULARY, vocabulary // 2),
        max_prompt_tokens=max_prompt_tokens,
        max_fast_tokens=MAX_FAST_TOKENS,
        prompt_template=PI05_TEMPLATE if is_pi05 else PI0_TEMPLATE,
        state_input=StateInput.TEXT if is_pi05 else StateInput.EXPERT,
        has_camera_embedding=False,
        words=Words.PUBLISHED,
        fast_ids=FastIds.VOCABULARY,
        text_head=text_head,
        has_padding_noise=True,
        codec="quantile" if is_pi05 else "zscore",
        lowest_state_bin=-1,
    )


def _stack(shapes: Mapping[str, tuple[int, ...]], prefix: str, *, is_adaptive: bool = False) -> TransformerConfig:
    layer = f"{prefix}layers.0."
    num_queries, width = _shape(shapes, f"{layer}self_attn.q_proj.weight")
    head_dim = _shape(shapes, f"{layer}self_attn.k_proj.weight")[0] // GEMMA_KV_HEADS
    return TransformerConfig(
        width=width,
        depth=_depth(shapes, f"{prefix}layers."),
        num_heads=num_queries // head_dim,
        num_kv_heads=GEMMA_KV_HEADS,
        head_dim=head_dim,
        mlp_dim=_shape(shapes, f"{layer}mlp.up_proj.weight")[0],
        is_adaptive=is_adaptive,
    )


def _tower(shapes: Mapping[str, tuple[int, ...]], *, heads: int | None) -> ViTTowerConfig:
    width, _, patch_size, _ = _shape(shapes, f"{names.TOWER}embeddings.patch_embedding.weight")
    num_patches, _ = _shape(shapes, f"{names.TOWER}embeddings.position_embedding.weight")
    heads = heads or SIGLIP_HEADS.get(width)
    if heads is None:
        raise OptionError(
            f"the vision tower is {width} wide; how many heads it has cannot be told from its weights "
            "(SigLIP So400m, 1152 wide, has 16): give --vision-heads"
        )
    return ViTTowerConfig(
        image_size=math.isqrt(num_patches) * patch_size,
        patch_size=patch_size,
        width=width,
        depth=_depth(shapes, f"{names.TOWER}encoder.layers."),
        num_heads=heads,
        mlp_dim=_shape(shapes, f"{names.TOWER}encoder.layers.0.mlp.fc1.weight")[0],
    )


def _depth(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> int:
    numbers = [int(found[1]) for name in shapes if (found := re.match(rf"{re.escape(prefix)}(\d+)\.", name))]
    return 1 + max(numbers, default=-1)


def _shape(shapes: Mapping[str, tuple[int, ...]], name: str) -> tuple[int, ...]:
    """Return the shape of a weight that every policy of the family has; a missing one raises `CheckpointError`."""
    if name not in shapes:
        raise CheckpointError(f"the checkpoint has no weight {name}; it is no π0 or π0.5 of LeRobot, openpi or OpenTau")
    return shapes[name]
