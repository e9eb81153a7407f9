"""Attention, norms and layers against plain restatements of their definitions."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from opentau.errors import OptionError
from opentau.models.attention import Attention, KeysValues, Rotation, spread
from opentau.models.config import ConvTowerConfig, TransformerConfig, ViTTowerConfig
from opentau.models.initialisation import initialise
from opentau.models.masks import additive, attention_mask, block_ids
from opentau.models.norms import AdaptiveRMSNorm, RMSNorm
from opentau.models.transformer import Transformer
from opentau.models.vision import scaled_pixels, vision_tower


def _config(**changes):
    sizes = {"width": 32, "depth": 3, "num_heads": 4, "num_kv_heads": 2, "head_dim": 8, "mlp_dim": 48}
    return TransformerConfig(**(sizes | changes))


def _transformer(config, *, seed=0):
    model = Transformer(config)
    initialise(model, seed=seed)
    return model.eval()


def _full_mask(batch, queries, keys):
    return additive(torch.ones(batch, queries, keys, dtype=torch.bool))


def test_grouped_attention_equals_softmax_over_repeated_heads():
    torch.manual_seed(0)
    attention = Attention(24, num_heads=6, num_kv_heads=2, head_dim=4)
    x = torch.randn(2, 5, 24)
    mask = additive(torch.rand(2, 5, 5).gt(0.4) | torch.eye(5, dtype=torch.bool))
    own = attention.keys_values(x, None)
    queries = attention.q_proj(x).unflatten(-1, (6, 4)).transpose(1, 2)
    keys, values = (tensor.repeat_interleave(3, dim=1) for tensor in own)
    weights = (queries @ keys.transpose(-1, -2) / math.sqrt(4) + mask).softmax(dim=-1)
    expected = attention.o_proj((weights @ values).transpose(1, 2).flatten(2))
    assert torch.allclose(attention(x, own, rotation=None, mask_B1TC=mask), expected, atol=1e-6)


@pytest.mark.parametrize("num_kv_heads", [1, 2])
def test_heads_that_share_keys_read_the_same_where_each_is_given_its_own(num_kv_heads):
    # As on a GPU, whose masked kernels know no shared heads; a single head is shared without a copy.
    torch.manual_seed(0)
    queries, own = torch.randn(2, 6, 5, 4), KeysValues(*torch.randn(2, 2, num_kv_heads, 7, 4))
    mask = additive(torch.rand(2, 5, 7).gt(0.3) | torch.ones(7).diag()[:5].bool())
    apart = spread(own, num_heads=6)
    expected = F.scaled_dot_product_attention(queries, *own, attn_mask=mask, enable_gqa=True)
    assert torch.allclose(F.scaled_dot_product_attention(queries, *apart, attn_mask=mask), expected, atol=1e-6)
    assert (apart.keys_BGTD.data_ptr() == own.keys_BGTD.data_ptr()) == (num_kv_heads == 1)


def test_rotary_scores_depend_on_the_distance_alone():
    torch.manual_seed(0)
    query, key = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def score(at_query, at_key):
        turned = [
            Rotation.at(torch.tensor([[at]]), head_dim=8, theta=10_000.0)(x) for at, x in ((at_query, query), (at_key, key))
        ]
        return float((turned[0] * turned[1]).sum())

    assert score(3, 1) == pytest.approx(score(12, 10), abs=1e-5)
    assert score(3, 1) != pytest.approx(score(3, 2), abs=1e-3)


def test_rms_norm_scales_by_one_plus_its_weight():
    norm = RMSNorm(4, eps=0.0)
    norm.weight.data = torch.tensor([0.0, 1.0, -1.0, 0.5])
    x = torch.tensor([[[2.0, 2.0, 2.0, -2.0]]])
    assert norm(x).tolist() == [[[1.0, 2.0, 0.0, -1.5]]]


def test_an_adaptive_norm_starts_as_a_plain_norm_with_the_configured_gate():
    norm = AdaptiveRMSNorm(16, condition_dim=8, eps=1e-6, gate_offset=1.0)
    initialise(norm, seed=0)
    x, condition = torch.randn(2, 3, 16), torch.randn(2, 1, 8)
    normed, gate = norm(x, condition)
    assert torch.equal(normed, RMSNorm(16, eps=1e-6)(x))
    assert torch.equal(gate, torch.ones(2, 1, 16))


def test_an_adaptive_transformer_with_zero_gates_starts_as_the_identity_up_to_its_norm():
    model = _transformer(_config(is_adaptive=True))
    x = torch.randn(2, 5, 32)
    read = model(
        x,
        rotations=model.rotations(torch.arange(5).expand(2, -1)),
        mask_B1TC=_full_mask(2, 5, 5),
        condition_BTZ=torch.randn(2, 1, 32),
    )
    assert torch.allclose(read, RMSNorm(32, eps=1e-6)(x), atol=1e-6)


def test_reading_a_prefix_through_its_keys_and_values_equals_one_joint_pass():
    model = _transformer(_config())
    x = torch.randn(2, 9, 32)
    positions = torch.arange(9).expand(2, -1)
    blocks = block_ids([5, 1, 1, 1, 1])
    joint_mask = attention_mask(query_blocks_Q=blocks, key_blocks_K=blocks, key_valid_BK=torch.ones(2, 9, dtype=torch.bool))
    joint = model(x, rotations=model.rotations(positions), mask_B1TC=additive(joint_mask))
    offered, _ = model.offer(x[:, :5], rotations=model.rotations(positions[:, :5]), mask_B1TC=additive(joint_mask[:, :5, :5]))
    later = model(x[:, 5:], rotations=model.rotations(positions[:, 5:]), mask_B1TC=additive(joint_mask[:, 5:]), context=offered)
    assert torch.allclose(later, joint[:, 5:], atol=1e-5)


def test_keys_and_values_are_joined_in_order():
    first, second = (KeysValues(*torch.randn(2, 1, 2, length, 4)) for length in (3, 2))
    assert torch.equal(first.followed_by(second).keys_BGTD[:, :, :3], first.keys_BGTD)


def test_dropout_acts_in_training_only():
    model = _transformer(_config(dropout=0.5))
    x, rotations = torch.randn(1, 4, 32), model.rotations(torch.arange(4)[None])
    arguments = {"rotations": rotations, "mask_B1TC": _full_mask(1, 4, 4)}
    assert torch.equal(model(x, **arguments), model(x, **arguments))
    model.train()
    assert not torch.equal(model(x, **arguments), model(x, **arguments))


@pytest.mark.parametrize(
    "config",
    [
        ConvTowerConfig(image_size=32, channels=(8, 16)),
        ViTTowerConfig(image_size=32, patch_size=8, width=24, depth=2, num_heads=3, mlp_dim=32),
    ],
    ids=["conv", "vit"],
)
def test_a_tower_gives_its_number_of_tokens_and_tells_positions_apart(config):
    tower = vision_tower(config, width=16)
    initialise(tower, seed=0)
    images = torch.zeros(2, 32, 32, 3, dtype=torch.uint8)
    images[1, :16] = 255
    tokens = tower(scaled_pixels(images))
    assert tokens.shape == (2, config.num_tokens, 16)
    assert not torch.allclose(tokens[0], tokens[1])
    assert not torch.allclose(tokens[0, 0], tokens[0, 1])


def test_pixels_are_scaled_to_plus_minus_one():
    images = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1).expand(2, 4, 4, 3)
    assert scaled_pixels(images).flatten(1).unique(dim=1).tolist() == [[-1.0], [1.0]]


def test_weights_are_a_function_of_the_seed():
    first, again, other = (_transformer(_config(), seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["layers.0.mlp.up_proj.weight"], other["layers.0.mlp.up_proj.weight"])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"num_kv_heads": 3}, "num_kv_heads"),
        ({"head_dim": 7}, "head_dim"),
        ({"dropout": 1.0}, "dropout"),
        ({"depth": 0}, "depth"),
    ],
)
def test_sizes_that_do_not_fit_are_named(changes, named):
    with pytest.raises(OptionError, match=named):
        _config(**changes)
