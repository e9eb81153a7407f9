"""`small` starts from parts, or from random weights; it trains, is saved and answers like every policy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from opentau.checkpoint import building
from opentau.data.frames import FrameTable
from opentau.errors import CheckpointError, OptionError
from opentau.policies.config import PolicyConfig
from opentau.policies.parts.making import make_parts
from opentau.policies.policy import VLAPolicy
from opentau.policies.pretrained import Pretrained, pretrained
from opentau.policies.small import small
from opentau.policies.weights import load_weights, start_model
from opentau.training.options import ObjectiveOptions, TrainOptions
from opentau.training.policy import PolicyData, PolicyTraining, train_policy
from opentau.types import Observation, PolicyRequest
from tests.fakes import counting_interface
from tests.unit.parts.wheels import write_wheels
from tests.unit.training.test_policy_training import IMAGE_SIZE, attempt

SIZES = {"cameras": ("agentview", "wrist"), "state_dim": 4, "action_dim": 2}
FRESH_PARTS = ("expert.", "state_in.", "camera_embedding.", "vision.norm.", "vision.projection.", "vision.position_embedding")


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    make_parts(folder / "parts", wheels=folder / "wheels", pins=write_wheels(folder / "wheels"))
    return folder / "parts"


def start(parts, **changes) -> Pretrained:
    options = {"image_size": IMAGE_SIZE, "depth": 1, "expert_width": 16, "action_horizon": 4, "parts": str(parts)}
    return small(**(SIZES | options | changes))


def test_it_starts_from_the_parts_and_only_what_joins_them_is_random(parts):
    known = load_weights(parts / "model.safetensors")
    model, words = start_model(start(parts), seed=0)
    other, _ = start_model(start(parts), seed=1)
    for name, weight in model.state_dict().items():
        is_fresh = name.startswith(FRESH_PARTS)
        assert (name in known) != is_fresh
        if not is_fresh:
            assert weight.dtype == torch.float32
            assert torch.equal(weight, known[name].float())
            assert torch.equal(weight, other.state_dict()[name])
    assert not torch.equal(model.expert.action_in.weight, other.expert.action_in.weight)
    assert words.encode("the milk") == words.encode("the milk")
    assert words.vocab_size == model.config.text_vocab_size


def test_the_control_is_the_same_model_with_nothing_known(parts):
    ours, control = start(parts), start(parts, weights="random")
    assert ours.config == control.config
    assert ours.to_dict() != control.to_dict()
    known = load_weights(parts / "model.safetensors")
    model, words = start_model(control, seed=0)
    again, _ = start_model(control, seed=0)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])
        if name in known and weight.ndim > 1:
            assert not torch.equal(weight, known[name].float())
    assert words.encode("the milk") == start_model(ours, seed=0)[1].encode("the milk")


def test_it_is_a_configuration_of_the_family(parts):
    config = start(parts, depth=2, dropout=0.1, max_committed=2, indicator_place="prompt").config
    assert PolicyConfig.from_dict(config.to_dict()) == config
    assert (config.backbone.depth, config.expert.depth, config.backbone.dropout, config.max_committed) == (2, 2, 0.1, 2)
    assert config.backbone.activation == "silu"
    assert not config.has_scaled_words


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"depth": 3}, r"policy\.args\.depth is 3; SmolLM2.* has 2 layers"),
        ({"weights": "part"}, "unknown policy.args.weights 'part'.*parts"),
        ({"image_size": 100}, "image_size is 100"),
    ],
)
def test_options_that_do_not_fit_are_refused(parts, changes, named):
    with pytest.raises(OptionError, match=named):
        start(parts, **changes)


def test_missing_parts_name_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENTAU_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"fetch them once \(110 MB\): opentau parts"):
        small(**SIZES)


def test_parts_of_another_size_than_they_say_are_listed(parts):
    wide = start(parts)
    backbone = dataclasses.replace(wide.config.backbone, mlp_dim=48)
    with pytest.raises(CheckpointError, match=r"backbone\.layers\.0\.mlp\.up_proj\.weight +\[48, 32\] +\[64, 32\]"):
        start_model(dataclasses.replace(wide, config=dataclasses.replace(wide.config, backbone=backbone)), seed=0)


def test_it_trains_is_saved_answers_and_is_a_start_itself(parts, tmp_path):
    table = FrameTable.from_episodes([attempt(number) for number in range(12)], dataset_id="demonstrations")
    training = PolicyTraining(
        options=TrainOptions(num_updates=3, batch_size=4, num_warmup_updates=1),
        objective=ObjectiveOptions(fast_weight=0.1),
        held_out_share=0.2,
    )
    with building(tmp_path / "policy", {}) as partial:
        summary = train_policy(
            PolicyData(table=table, interface=counting_interface(IMAGE_SIZE)),
            start=start(parts),
            training=training,
            seed=0,
            directory=partial,
            work_dir=tmp_path / "work",
        )
    assert np.isfinite(summary.metrics["train/held_out_loss"])
    assert np.isfinite(summary.metrics["train/fast"])
    episode = attempt(0)
    seen = {camera: frames[0] for camera, frames in episode.images.items()}
    observation = Observation(images=seen, state=episode.state[0], prompt=episode.prompt, time_s=0.0)
    (chunk,) = VLAPolicy.load(tmp_path / "policy").infer([PolicyRequest(observation=observation, episode_seed=0, tick=0)])
    assert chunk.actions.shape == (4, 2)
    further = pretrained(str(tmp_path / "policy"), **SIZES)
    assert start_model(further, seed=0)[1].encode("the milk") == start_model(start(parts), seed=0)[1].encode("the milk")
