"""What the full-size benchmark says of arithmetic is that of the model, and its small shapes are the same policy."""

from __future__ import annotations

import pytest

from benchmarks.full_size import CAMERAS, pass_flops, policy_config
from opentau.policies.config import PolicyConfig
from opentau.policies.vla import VLA

PROMPT = 30


def flops_of_products(config: PolicyConfig) -> float:
    """Return six times weights times tokens of every part, and the scores; the first layers have no gradient to pass on."""
    tower, tokens, horizon = config.vision, config.vision.num_tokens * len(CAMERAS), config.action_horizon

    def stack(sizes, num_tokens, num_seen, *, num_whole):
        heads, keys = sizes.num_heads * sizes.head_dim, sizes.num_kv_heads * sizes.head_dim
        weights = sizes.width * (2 * heads + 2 * keys + 3 * sizes.mlp_dim)
        scores = 2 * heads * num_seen
        return 6 * num_tokens * (num_whole * (weights + scores) + (sizes.depth - num_whole) * 2 * sizes.width * keys)

    prefix = tokens + PROMPT
    eyes = (
        6 * tokens * tower.depth * (4 * tower.width**2 + 2 * tower.width * tower.mlp_dim + 2 * tower.width * tower.num_tokens)
    )
    # What the backbone's last layer would add is not computed: it offers keys and values alone.
    backbone = stack(config.backbone, prefix, prefix, num_whole=config.backbone.depth - 1)
    expert = stack(config.expert, horizon, prefix + horizon, num_whole=config.expert.depth)
    return eyes + backbone + expert


@pytest.mark.parametrize("is_full", [False, True], ids=["small", "full"])
def test_arithmetic_is_counted_as_by_hand(is_full: bool) -> None:
    config = policy_config(is_full=is_full)
    counted, by_hand = pass_flops(config, num_prompt_tokens=PROMPT), flops_of_products(config)
    # Patches, projections and norms' modulation are not in the formula.
    assert 1.0 <= counted / by_hand < (1.03 if is_full else 1.2)


def test_the_small_shapes_are_pi05_at_a_thousandth_of_the_weights() -> None:
    config = policy_config(is_full=False)
    num_weights = sum(parameter.numel() for parameter in VLA.create(config, seed=0).parameters())
    assert 2e6 < num_weights < 5e6
    full = policy_config(is_full=True)
    for name in ("prompt_template", "state_input", "action_dim", "action_horizon", "has_padding_noise", "codec"):
        assert getattr(config, name) == getattr(full, name), name
