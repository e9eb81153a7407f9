"""A policy's configuration: what it is made of, to plain data and back."""

from __future__ import annotations

import dataclasses
import json

import pytest

from opentau.data.images import ImageFit
from opentau.errors import OptionError
from opentau.models.config import TransformerConfig
from opentau.policies.config import IndicatorPlace, PolicyConfig, StateInput, nano
from opentau.policies.family import published
from opentau.policies.vla import VLA
from tests.unit.policies.parts import CAMERAS, FAMILY, nano_like


def test_nano_has_about_three_million_parameters():
    config = nano(cameras=CAMERAS, state_dim=8, action_dim=7)
    assert 2_000_000 < sum(parameter.numel() for parameter in VLA.create(config, seed=0).parameters()) < 3_300_000


@pytest.mark.parametrize("member", FAMILY.values(), ids=FAMILY)
def test_plain_data_and_back_is_the_same_configuration(member):
    config = member()
    assert PolicyConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_where_the_indicator_stands_is_told_only_where_that_is_not_the_usual_place():
    usual, other = nano_like(), nano_like(indicator_place=IndicatorPlace.PROMPT)
    assert "indicator_place" not in usual.to_dict()
    assert PolicyConfig.from_dict(json.loads(json.dumps(other.to_dict()))) == other
    sizes = {"cameras": CAMERAS, "state_dim": 8, "action_dim": 7}
    assert nano(**sizes, indicator_place="prompt").indicator_place is IndicatorPlace.PROMPT
    with pytest.raises(OptionError, match=r"unknown indicator_place 'promt'.*'prompt'"):
        nano(**sizes, indicator_place="promt")


def test_how_images_are_fitted_is_told_only_where_that_is_not_the_usual_way():
    usual, other = nano_like(), nano_like(image_fit=ImageFit.TENSORAUTO)
    assert "image_fit" not in usual.to_dict()
    assert other.to_dict()["image_fit"] == "tensorauto"
    assert PolicyConfig.from_dict(json.loads(json.dumps(other.to_dict()))) == other
    sizes = {"cameras": CAMERAS, "state_dim": 8, "action_dim": 7}
    assert published("pi05", **sizes, image_fit="lerobot").image_fit is ImageFit.LEROBOT
    with pytest.raises(OptionError, match=r"unknown image_fit 'lerobo'.*'lerobot'"):
        published("pi05", **sizes, image_fit="lerobo")


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("widht",), 3, "widht"),
        (("vision", "kind"), "convv", "conv"),
        (("state_input",), "tokn", "token"),
        (("backbone", "depth"), "two", "policy.backbone.depth"),
        (("backbone", "deph"), 2, "depth"),
    ],
)
def test_unknown_keys_and_wrong_values_are_named(path, value, named):
    plain = nano_like().to_dict()
    inner = plain
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(OptionError, match=named):
        PolicyConfig.from_dict(plain)


def test_an_expert_of_another_depth_is_refused():
    config = nano_like()
    with pytest.raises(OptionError, match=r"expert\.depth is 3 and backbone\.depth 2"):
        dataclasses.replace(config, expert=dataclasses.replace(config.expert, depth=3))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"cameras": ()}, "cameras"),
        ({"cameras": ("a", "a")}, "cameras"),
        ({"max_committed": 8}, "max_committed"),
        ({"state_input": StateInput.TEXT}, "prompt_template"),
        ({"indicator_place": IndicatorPlace.PROMPT, "has_indicator_text": False}, "indicator_place"),
        ({"prompt_template": "do it"}, "prompt_template"),
        ({"action_dim": 0}, "action_dim"),
        (
            {
                "backbone": TransformerConfig(
                    width=64, depth=2, num_heads=2, num_kv_heads=2, head_dim=32, mlp_dim=8, is_adaptive=True
                )
            },
            "is_adaptive",
        ),
    ],
)
def test_values_that_do_not_fit_are_named(changes, named):
    with pytest.raises(OptionError, match=named):
        nano_like(**changes)
