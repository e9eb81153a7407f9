"""The noise of chunks, and an actor that chooses it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from opentau.errors import CheckpointError
from opentau.policies.config import IndicatorPlace, PolicyConfig
from opentau.policies.noise import ACTOR_FILE, NoiseActor, moved, seeded_draw
from opentau.policies.options import InferenceOptions
from opentau.policies.policy import VLAPolicy
from tests.unit.policies.parts import ACTION_DIM, STATE_DIM, model, nano_like, processor, request

LIMIT = 1.5


def _actor(config: PolicyConfig, *, bias: float = 0.0) -> NoiseActor:
    """Return an actor of random weights, which says more or less of the last dimension."""
    torch.manual_seed(0)
    actor = NoiseActor(num_features=config.feature_dim, num_read=6, state_dim=STATE_DIM, action_dim=ACTION_DIM, widths=(16, 8))
    with torch.no_grad():
        actor.projection.normal_(std=0.1)
        actor.limit.fill_(LIMIT)
        actor.mean.bias[-1] += bias
    return actor.eval()


def _policy(config: PolicyConfig, actor: NoiseActor | None, *, batch_size: int = 1, **options) -> VLAPolicy:
    inference = InferenceOptions(**options)
    return VLAPolicy(
        model(config),
        processor=processor(config),
        policy_version="v1",
        options=inference,
        batch_size=batch_size,
        actor=actor,
    )


def test_moved_noise_has_the_mean_that_is_asked_for_and_keeps_the_rest():
    noise_BHA, mean_BA = torch.randn(3, 8, 4), torch.randn(3, 2)
    told_BHA = moved(noise_BHA, mean_BA)
    assert torch.allclose(told_BHA[..., :2].mean(dim=1), mean_BA, atol=1e-6)
    assert torch.equal(told_BHA[..., 2:], noise_BHA[..., 2:])
    change_BHA = told_BHA - noise_BHA
    assert torch.allclose(change_BHA, change_BHA[:, :1].expand_as(change_BHA), atol=1e-6)


def test_noise_moved_to_its_own_mean_is_the_noise():
    noise_BHA = torch.randn(3, 8, 2)
    assert torch.allclose(moved(noise_BHA, noise_BHA.mean(dim=1)), noise_BHA, atol=1e-6)


def test_an_actor_says_numbers_within_its_limit_that_its_draw_moves():
    config = nano_like()
    actor = _actor(config)
    read_BR = actor.read(torch.randn(5, config.feature_dim), torch.randn(5, STATE_DIM))
    with torch.no_grad():
        likely_BA, drawn_BA = (actor(read_BR, torch.full((5, ACTION_DIM), draw)) for draw in (0.0, 3.0))
    assert drawn_BA.abs().max() <= LIMIT
    assert (drawn_BA > likely_BA).all()


def test_an_actor_comes_back_from_its_file(tmp_path: Path):
    actor = _actor(nano_like())
    actor.save(tmp_path)
    again = NoiseActor.load(tmp_path)
    assert again is not None
    assert all(torch.equal(tensor, actor.state_dict()[name]) for name, tensor in again.state_dict().items())
    assert NoiseActor.load(tmp_path / "elsewhere") is None


@pytest.mark.parametrize("damage", ["cut", "without a layer"])
def test_a_damaged_actor_is_refused(tmp_path: Path, damage: str):
    _actor(nano_like()).save(tmp_path)
    path = tmp_path / ACTOR_FILE
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    else:
        save_file({name: tensor for name, tensor in load_file(path).items() if name != "log_std.bias"}, path)
    with pytest.raises(CheckpointError, match=ACTOR_FILE):
        NoiseActor.load(tmp_path)


@pytest.mark.parametrize("place", IndicatorPlace)
def test_a_steered_policy_follows_its_actor_and_not_its_company(place: IndicatorPlace):
    config = nano_like(indicator_place=place, has_indicator_embedding=place is IndicatorPlace.BLOCK)
    ask = [request(seed=seed, tick=8 * seed) for seed in range(3)]
    plain, steered, otherwise = (
        _policy(config, actor, batch_size=2).infer(ask) for actor in (None, _actor(config), _actor(config, bias=2.0))
    )
    alone = _policy(config, _actor(config), batch_size=2).infer(ask[2:])
    assert np.array_equal(alone[0].actions, steered[2].actions)
    assert not np.allclose(steered[0].actions, plain[0].actions, atol=1e-3)
    assert not np.allclose(steered[0].actions, otherwise[0].actions, atol=1e-3)


def test_what_an_actor_reads_does_not_depend_on_the_indicator():
    config = nano_like(indicator_place=IndicatorPlace.PROMPT, has_indicator_embedding=False)
    said = []

    class Listening(NoiseActor):
        def forward(self, read_BR, draw_BA):
            said.append(super().forward(read_BR, draw_BA))
            return said[-1]

    actor = _actor(config)
    actor.__class__ = Listening
    for indicator in ("positive", "negative"):
        _policy(config, actor, indicator=indicator).infer([request(seed=0)])
    assert torch.equal(*said)


def test_an_actor_that_says_what_was_drawn_changes_nothing():
    """With the mean of the seeded noise as its word, the steered policy is the policy."""
    config = nano_like()
    policy = _policy(config, None)
    ask = [request(seed=1)]
    prefix = policy.model.prefix(policy.processor.request_inputs(ask, indicator=policy.processor.served_indicator))
    drawing = policy._draw
    with torch.no_grad():
        plain = drawing(ask, prefix=prefix, unguided=None)
        mean_BA = torch.from_numpy(drawing._noise(ask[0], candidate=0)).mean(dim=0)[None, :ACTION_DIM]
        assert torch.allclose(drawing(ask, prefix=prefix, unguided=None, mean_BA=mean_BA), plain, atol=1e-5)
        several = dataclasses.replace(drawing, options=InferenceOptions(num_candidates=3))
        assert several(ask, prefix=prefix, unguided=None, mean_BA=mean_BA).shape == plain.shape


def test_draws_are_a_function_of_episode_and_tick():
    first = seeded_draw(4, episode_seed=2**70 + 1, tick=8)
    assert np.array_equal(first, seeded_draw(4, episode_seed=2**70 + 1, tick=8))
    assert not np.array_equal(first, seeded_draw(4, episode_seed=2**70 + 1, tick=16))
