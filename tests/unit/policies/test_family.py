"""The published members of the family, at full size and without memory."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from opentau.errors import OptionError
from opentau.policies import family
from opentau.policies.published.names import LEROBOT_PREFIX, published_name
from opentau.policies.vla import VLA
from opentau.policies.weights import INDICATOR

LEROBOT = Path(__file__).parents[2] / "fixtures" / "lerobot_pi05_ckpt" / "model.safetensors"
SIZES = {"cameras": ("base", "left", "right"), "state_dim": 8, "action_dim": 7}
PALIGEMMA_3B, PALIGEMMA_WORDS = 2_923_466_480, 257_216
"""Parameters and words of google/paligemma-3b-pt-224; openpi cuts the last words off."""
GEMMA_300M_IN_MILLIONS = 311
"""Of openpi's gemma_300m, without words and with plain norms."""
GEMMA3_4B, GEMMA3_PATCHES, SIGLIP_WIDTH = 4_300_079_472, 4096, 1152
"""Parameters of google/gemma-3-4b-pt, and patches of its images, which each have a position."""
PI06_EXPERT_IN_MILLIONS = 860


def built(config) -> VLA:
    with torch.device("meta"):
        return VLA(config)


def count(model: VLA, *prefixes: str) -> int:
    return sum(tensor.numel() for name, tensor in model.state_dict().items() if name.startswith(prefixes))


@pytest.mark.parametrize("member", ["pi0", "pi05"])
def test_the_vision_language_model_has_the_parameters_of_paligemma_3b(member):
    model = built(family.published(member, **SIZES))
    cut = (PALIGEMMA_WORDS - family.PALIGEMMA_VOCABULARY) * family.GEMMA_2B.width
    assert count(model, "vision.", "text_embedding.", "backbone.") + cut == PALIGEMMA_3B


def test_pi0s_expert_has_the_parameters_of_gemma_300m():
    model = built(family.published("pi0", **SIZES))
    assert round(count(model, "expert.transformer.") / 1e6) == GEMMA_300M_IN_MILLIONS


def test_pi05s_expert_adds_a_modulation_to_every_norm():
    width, num_norms = 1024, 2 * 18 + 1
    plain, modulated = (count(built(family.published(member, **SIZES)), "expert.transformer.") for member in ("pi0", "pi05"))
    assert modulated - plain == num_norms * ((width + 1) * 3 * width - width)


def test_pi06_reads_with_the_parameters_of_gemma_3_4b_and_acts_with_860_million():
    config = family.published("pi06", **SIZES)
    model = built(config)
    cut = (GEMMA3_PATCHES - config.vision.num_patches) * SIGLIP_WIDTH
    assert count(model, "vision.", "text_embedding.", "backbone.") + cut == GEMMA3_4B
    assert count(model, "expert.") / 1e6 == pytest.approx(PI06_EXPERT_IN_MILLIONS, rel=0.002)
    assert config.vision.num_tokens == 256


def test_pi05s_names_are_those_of_lerobots_checkpoint_at_its_depths():
    with safe_open(LEROBOT, framework="pt") as stored:
        small = set(stored.keys())
    layer = re.compile(r"(encoder|language_model|gemma_expert\.model)\.layers\.(\d+)\.")
    wanted = {name for name in small if not layer.search(name)}
    for name in small:
        if (found := layer.search(name)) and found[2] == "0":
            depth = 27 if found[1] == "encoder" else 18
            wanted |= {name.replace(".layers.0.", f".layers.{number}.") for number in range(depth)}
    ours = {
        LEROBOT_PREFIX + published_name(name, is_adaptive=True)
        for name in built(family.published("pi05", **SIZES)).state_dict()
        if name != INDICATOR
    }
    # Both heads are in LeRobot's file beside: one is the embedding once more, one is read by nothing.
    assert wanted - ours == {name for name in small if name.endswith("lm_head.weight")}
    assert ours - wanted == set()


def test_a_member_that_there_is_none_of_is_answered_with_those_that_are_near():
    with pytest.raises(OptionError, match="'pi05'"):
        family.published("pi5", **SIZES)


def test_pi0_commits_to_no_actions_because_its_chunk_has_one_flow_time():
    with pytest.raises(OptionError, match="use pi05 or pi06"):
        family.published("pi0", max_committed=4, **SIZES)
