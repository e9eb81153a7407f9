"""What the weights of published π0 and π0.5 checkpoints are called, and what they are called here."""

from __future__ import annotations

import re
from collections.abc import Iterable

from opentau.errors import CheckpointError

CORE = "paligemma_with_expert."
LANGUAGE = f"{CORE}paligemma.model.language_model."
TOWER = f"{CORE}paligemma.model.vision_tower.vision_model."
HEAD = f"{CORE}paligemma.lm_head.weight"
EMBEDDING = f"{LANGUAGE}embed_tokens.weight"
UNUSED = f"{CORE}gemma_expert.lm_head.weight"
"""Part of LeRobot's and openpi's checkpoints, read by nothing."""
ACTION_EMBEDDING, ACTION_HEAD = f"{CORE}discrete_action_embedding.weight", f"{CORE}da_head"
"""TensorAuto OpenTau's embedding and head of action tokens."""
LEROBOT_PREFIX = "model."

PARTS = (
    ("vision.patch_embedding.", f"{TOWER}embeddings.patch_embedding."),
    ("vision.position_embedding", f"{TOWER}embeddings.position_embedding.weight"),
    ("vision.layers.", f"{TOWER}encoder.layers."),
    ("vision.post_layernorm.", f"{TOWER}post_layernorm."),
    ("vision.projection.", f"{CORE}paligemma.model.multi_modal_projector.linear."),
    ("text_embedding.weight", EMBEDDING),
    ("text_head.", HEAD.removesuffix("weight")),
    ("backbone.", LANGUAGE),
    ("expert.transformer.", f"{CORE}gemma_expert.model."),
    ("expert.action_in.", "action_in_proj."),
    ("expert.action_out.", "action_out_proj."),
    ("expert.state_in.", "state_proj."),
)
"""Ours and theirs, beginnings of names."""
TIME = ("expert.time_mlp_", "time_mlp_", "action_time_mlp_")
"""Ours, π0.5's, π0's."""
NESTINGS = (
    (re.compile(r"^model\."), ""),
    (
        re.compile(r"^(paligemma_with_expert\.paligemma)\.(?=vision_tower\.|multi_modal_projector\.|language_model\.)"),
        r"\1.model.",
    ),
    (re.compile(r"\.model\.language_model\.lm_head\."), ".lm_head."),
    (re.compile(r"\.language_model\.model\."), ".language_model."),
    (re.compile(r"\.vision_tower\.(?!vision_model\.)"), ".vision_tower.vision_model."),
)
"""The versions of transformers that wrote the checkpoints nest the same weights differently; this brings them to one form."""


def canonical(name: str) -> str:
    """Return the name of a published weight in the nesting of LeRobot 0.6.1, without its leading `model.`."""
    for pattern, replacement in NESTINGS:
        name = pattern.sub(replacement, name)
    return name


def by_canonical_name(names: Iterable[str]) -> dict[str, str]:
    """Return the canonical names and what a file calls them; two names of one weight raise `CheckpointError`."""
    found: dict[str, str] = {}
    for name in names:
        known = found.setdefault(canonical(name), name)
        if known != name:
            raise CheckpointError(f"the checkpoint holds {known} and {name}, which are the same weight; keep one of them")
    return found


def published_name(ours: str, *, is_adaptive: bool) -> str:
    """Return the canonical name of one of our weights; flow time is named by whether it enters through adaptive norms.

    Weights that no published checkpoint has raise `CheckpointError`.
    """
    prefix, adaptive, plain = TIME
    if ours.startswith(prefix):
        return (adaptive if is_adaptive else plain) + ours.removeprefix(prefix)
    for mine, theirs in PARTS:
        if ours.startswith(mine):
            name = theirs + ours.removeprefix(mine)
            return name.replace(".o_proj.", ".out_proj.") if theirs.startswith(TOWER) else name
    raise CheckpointError(f"{ours} has no counterpart in the published layouts of the π family")
