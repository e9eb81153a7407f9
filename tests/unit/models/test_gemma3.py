"""The switches of Gemma 3 against transformers' own numbers, written by benchmarks/lerobot_side/write_gemma3_golden.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from opentau.errors import OptionError
from opentau.models.config import TransformerConfig, ViTTowerConfig
from opentau.models.masks import additive
from opentau.models.transformer import Transformer
from opentau.models.vision import ViTTower

GOLDEN = Path(__file__).parents[2] / "golden" / "gemma3.npz"
SIZES = {"width": 16, "depth": 4, "num_heads": 4, "num_kv_heads": 2, "head_dim": 8, "mlp_dim": 24}
SWITCHES = {
    "rope_theta": 1_000_000.0,
    "rope_scale": 8.0,
    "num_local_layers": 2,
    "has_query_key_norm": True,
    "has_output_norm": True,
}
# In transformers 'post_attention_layernorm' follows attention's output; ours, as in Gemma 1, stands before the MLP.
RENAMED = {
    "post_attention_layernorm": "attention_output_norm",
    "pre_feedforward_layernorm": "post_attention_layernorm",
    "post_feedforward_layernorm": "mlp_output_norm",
}


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN, allow_pickle=False) as arrays:
        return {name: torch.tensor(arrays[name]) for name in arrays.files}


def text_model(golden, **changes):
    model = Transformer(TransformerConfig(**(SIZES | SWITCHES | changes)))
    weights = {}
    for name, tensor in golden.items():
        if name.startswith("text."):
            parts = name.removeprefix("text.").split(".")
            weights[".".join(RENAMED.get(part, part) for part in parts)] = tensor
    model.load_state_dict(weights)
    return model.eval()


def read(model, tokens):
    batch, length, _ = tokens.shape
    causal = torch.ones(length, length, dtype=torch.bool).tril().expand(batch, -1, -1)
    positions = torch.arange(length).expand(batch, -1)
    return model(tokens, rotations=model.rotations(positions), mask_B1TC=additive(causal))


def test_the_transformer_computes_what_gemma_3_does(golden):
    difference = read(text_model(golden), golden["in.tokens"]) - golden["out.tokens"]
    assert difference.abs().max() < 1e-5


@pytest.mark.parametrize("switch", ["rope_theta", "rope_scale", "num_local_layers"])
def test_each_rule_of_its_rotary_positions_matters(golden, switch):
    plain = {"rope_theta": 10_000.0, "rope_scale": 1.0, "num_local_layers": 0}[switch]
    difference = read(text_model(golden, **{switch: plain}), golden["in.tokens"]) - golden["out.tokens"]
    assert difference.abs().max() > 1e-4


def test_the_tower_pools_and_projects_as_gemma_3_does(golden):
    config = ViTTowerConfig(
        image_size=56, patch_size=14, width=12, depth=1, num_heads=2, mlp_dim=8, pool_size=2, projector="normed"
    )
    tower = ViTTower(config, width=16)
    tower.projection.weight.data = golden["projector.mm_input_projection_weight"].T
    tower.projection_norm.weight.data = golden["projector.mm_soft_emb_norm.weight"]
    tokens = tower.project(golden["in.patches"])
    assert tokens.shape[1] == config.num_tokens
    assert (tokens - golden["out.patches"]).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"activation": "relu"}, "activation is 'relu'"),
        ({"num_local_layers": -1}, "num_local_layers is -1"),
        ({"has_output_norm": True, "is_adaptive": True}, "has_output_norm and is_adaptive"),
    ],
)
def test_switches_that_make_no_model_are_refused(changes, named):
    with pytest.raises(OptionError, match=named):
        TransformerConfig(**(SIZES | changes))


@pytest.mark.parametrize(
    ("changes", "named"), [({"pool_size": 3}, "pool_size is 3"), ({"projector": "conv"}, "projector is 'conv'")]
)
def test_towers_that_make_no_model_are_refused(changes, named):
    sizes = {"image_size": 56, "patch_size": 14, "width": 12, "depth": 1, "num_heads": 2, "mlp_dim": 8}
    with pytest.raises(OptionError, match=named):
        ViTTowerConfig(**(sizes | changes))
