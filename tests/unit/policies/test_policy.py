"""The served policy: an answer is a function of its request, and of nothing else."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from opentau.errors import OptionError, PolicyError
from opentau.policies.config import IndicatorPlace, nano
from opentau.policies.options import InferenceOptions, identifying
from opentau.policies.policy import VLAPolicy
from tests.unit.policies.parts import (
    ACTION_DIM,
    CAMERAS,
    FAMILY,
    HORIZON,
    SIZE,
    STATE_DIM,
    batch,
    model,
    nano_like,
    pi05_like,
    processor,
    request,
)


def _policy(config=None, *, vla=None, batch_size=1, **options):
    config = config or nano_like()
    return VLAPolicy(
        vla or model(config),
        processor=processor(config),
        policy_version="v1",
        options=InferenceOptions(**options),
        batch_size=batch_size,
    )


@pytest.fixture
def _two_threads():
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


NANO = nano(cameras=CAMERAS, image_size=SIZE, state_dim=STATE_DIM, action_dim=ACTION_DIM, action_horizon=HORIZON)


@pytest.mark.parametrize("batch_size", [1, 2, 4])
@pytest.mark.parametrize(
    ("config", "options"),
    [
        (NANO, {}),
        (nano_like(), {"guidance": 1.5}),
        (pi05_like(), {}),
        (nano_like(indicator_place=IndicatorPlace.PROMPT), {"guidance": 1.5}),
    ],
    ids=["nano", "guided", "pi05", "prompt"],
)
def test_answers_are_equal_to_the_bit_alone_in_company_and_in_every_row(config, options, batch_size):
    _assert_company_changes_nothing(config, batch_size=batch_size, orders=([0, 1, 2, 3], [3, 2, 1, 0], [1, 3]), **options)


@pytest.mark.usefixtures("_two_threads")
def test_the_same_holds_with_two_threads():
    _assert_company_changes_nothing(NANO, batch_size=4, orders=([3, 2, 1, 0], [1, 3]), num_flow_steps=1)


def _assert_company_changes_nothing(config, *, batch_size, orders, **options):
    policy = _policy(config, batch_size=batch_size, **options)
    requests = [request(seed=seed, tick=seed) for seed in range(4)]
    alone = [policy.infer([asked])[0].actions for asked in requests]
    features = [policy.features([asked])[0] for asked in requests]
    for order in orders:
        company = [requests[index] for index in order]
        for index, chunk, vector in zip(order, policy.infer(company), policy.features(company), strict=True):
            assert np.array_equal(chunk.actions, alone[index])
            assert np.array_equal(vector, features[index])


def test_company_with_missing_cameras_or_committed_actions_changes_nothing():
    policy = _policy(nano_like(max_committed=3), batch_size=3)
    asked = request(seed=0)
    odd = request(seed=1, cameras=("wrist",), committed=np.full((2, ACTION_DIM), 0.1, np.float32))
    assert np.array_equal(policy.infer([asked])[0].actions, policy.infer([odd, asked])[1].actions)


@pytest.mark.parametrize("member", FAMILY.values(), ids=FAMILY)
def test_every_member_of_the_family_answers_in_the_interfaces_units(member):
    policy = _policy(member())
    chunk = policy.infer([request(seed=0)])[0]
    assert chunk.actions.shape == (HORIZON, ACTION_DIM)
    assert chunk.actions.dtype == np.float32
    assert chunk.policy_version == "v1"
    assert policy.interface == policy.processor.interface
    assert policy.action_horizon == HORIZON


def test_noise_comes_from_the_episode_seed_and_the_tick():
    policy = _policy()
    asked = request(seed=0)
    same, other_seed, other_tick = (
        policy.infer([dataclasses.replace(asked, **change)])[0].actions for change in ({}, {"episode_seed": 9}, {"tick": 9})
    )
    assert np.array_equal(policy.infer([asked])[0].actions, same)
    assert not np.allclose(same, other_seed)
    assert not np.allclose(same, other_tick)


def test_no_requests_have_no_answers():
    assert _policy().infer([]) == []


def test_committed_actions_come_back_bit_for_bit_and_shape_the_rest():
    policy = _policy(nano_like(max_committed=4))
    free = policy.infer([request(seed=0)])[0].actions
    for length in range(1, 5):
        committed = np.random.default_rng(length).uniform(-1, 1, (length, ACTION_DIM)).astype(np.float32)
        chunk = policy.infer([request(seed=0, committed=committed)])[0].actions
        assert np.array_equal(chunk[:length], committed)
        assert not np.allclose(chunk[length:], free[length:])


def test_more_committed_actions_than_were_trained_are_refused():
    with pytest.raises(OptionError, match="commits 3 actions, the policy was trained with at most 2"):
        _policy(nano_like(max_committed=2)).infer([request(seed=0, committed=np.zeros((3, ACTION_DIM), np.float32))])


def test_a_policy_that_was_not_trained_to_is_guided_to_continue_committed_actions():
    policy = _policy(committed="guided")
    free = policy.infer([request(seed=0)])[0].actions
    assert np.array_equal(free, _policy().infer([request(seed=0)])[0].actions)
    for length in (1, HORIZON - 1):
        committed = np.random.default_rng(length).uniform(-1, 1, (length, ACTION_DIM)).astype(np.float32)
        chunk = policy.infer([request(seed=0, committed=committed)])[0].actions
        assert np.array_equal(chunk[:length], committed)
        assert not np.allclose(chunk[length:], free[length:])


@pytest.mark.parametrize("guidance", [1.0, 1.5])
def test_company_that_is_guided_to_continue_changes_nothing(guidance):
    policy = _policy(committed="guided", guidance=guidance, batch_size=3)
    asked = request(seed=0, committed=np.full((3, ACTION_DIM), 0.2, np.float32))
    odd = request(seed=1, cameras=("wrist",), committed=np.full((2, ACTION_DIM), 0.1, np.float32))
    free = request(seed=2)
    alone = [policy.infer([each])[0].actions for each in (asked, odd, free)]
    together = [chunk.actions for chunk in policy.infer([free, odd, asked])]
    assert all(np.array_equal(*pair) for pair in zip(alone, reversed(together), strict=True))


def test_guidance_leaves_no_gradients_behind():
    vla = model(nano_like())
    _policy(vla=vla, committed="guided").infer([request(seed=0, committed=np.zeros((2, ACTION_DIM), np.float32))])
    assert all(parameter.grad is None for parameter in vla.parameters())


def test_as_many_committed_actions_as_a_chunk_has_are_refused():
    with pytest.raises(OptionError, match=f"commits {HORIZON} actions, a chunk has {HORIZON}"):
        _policy(committed="guided").infer([request(seed=0, committed=np.zeros((HORIZON, ACTION_DIM), np.float32))])


def test_guidance_one_is_the_conditional_policy_and_zero_the_unconditional():
    config = nano_like()
    vla = model(config)
    ask = [request(seed=0)]
    conditional = _policy(config, vla=vla, indicator="positive").infer(ask)[0].actions
    absent = _policy(config, vla=vla, indicator="absent").infer(ask)[0].actions
    almost = _policy(config, vla=vla, guidance=1.0 + 1e-7).infer(ask)[0].actions
    assert np.allclose(almost, conditional, atol=1e-4)
    assert np.allclose(_policy(config, vla=vla, guidance=0.0).infer(ask)[0].actions, absent, atol=1e-5)
    assert not np.allclose(conditional, absent, atol=1e-3)


def test_guidance_extrapolates_the_velocity_of_one_flow_step():
    config = nano_like()
    vla = model(config)
    options = {"vla": vla, "num_flow_steps": 1}
    encode = processor(config).codec.encode_action
    with_indicator, without, guided = (
        encode(_policy(config, **options, **change).infer([request(seed=0)])[0].actions)
        for change in ({}, {"indicator": "absent"}, {"guidance": 2.5})
    )
    assert np.allclose(guided, without + 2.5 * (with_indicator - without), atol=1e-4)


IN_PROMPT = {"indicator_place": IndicatorPlace.PROMPT, "has_indicator_embedding": False}


def test_guidance_with_the_indicator_in_the_prompt_takes_two_passes_and_is_the_same_formula():
    config = nano_like(**IN_PROMPT)
    vla = model(config)
    options = {"vla": vla, "num_flow_steps": 1}
    encode = processor(config).codec.encode_action
    conditional, absent, almost, guided = (
        encode(_policy(config, **options, **change).infer([request(seed=0)])[0].actions)
        for change in ({}, {"indicator": "absent"}, {"guidance": 1.0 + 1e-7}, {"guidance": 2.5})
    )
    assert not np.allclose(conditional, absent, atol=1e-3)
    assert np.allclose(almost, conditional, atol=1e-5)
    assert np.allclose(guided, absent + 2.5 * (conditional - absent), atol=1e-4)


@pytest.mark.parametrize("changes", [{}, IN_PROMPT], ids=["block", "prompt"])
def test_guidance_from_the_negative_is_the_same_formula(changes):
    config = nano_like(**changes)
    vla = model(config)
    options = {"vla": vla, "num_flow_steps": 1}
    encode = processor(config).codec.encode_action
    conditional, negative, guided = (
        encode(_policy(config, **options, **change).infer([request(seed=0)])[0].actions)
        for change in ({}, {"indicator": "negative"}, {"guidance": 2.5, "guided_from": "negative"})
    )
    assert not np.allclose(conditional, negative, atol=1e-3)
    assert np.allclose(guided, negative + 2.5 * (conditional - negative), atol=1e-4)


def test_what_guidance_pushes_away_from_is_no_part_of_the_identity_of_older_runs():
    assert identifying({"guidance": 1.5, "guided_from": "absent"}) == {"guidance": 1.5}
    assert identifying({"guidance": 1.5, "guided_from": "negative"}) == {"guidance": 1.5, "guided_from": "negative"}


def test_features_do_not_depend_on_an_indicator_in_the_prompt():
    config = nano_like(**IN_PROMPT)
    vla = model(config)
    asked = [request(seed=0)]
    positive, negative = (_policy(config, vla=vla, indicator=name).features(asked) for name in ("positive", "negative"))
    assert np.array_equal(positive, negative)


@pytest.mark.parametrize("changes", [{}, IN_PROMPT], ids=["block", "prompt"])
def test_positive_and_negative_policies_differ(changes):
    config = nano_like(**changes)
    vla = model(config)
    positive, negative = (
        _policy(config, vla=vla, indicator=indicator).infer([request(seed=0)])[0].actions
        for indicator in ("positive", "negative")
    )
    assert not np.allclose(positive, negative, atol=1e-3)


def test_features_do_not_depend_on_the_indicator_and_fit_those_of_recorded_frames():
    config = nano_like()
    vla = model(config)
    requests = [request(seed=seed) for seed in range(3)]
    served = _policy(config, vla=vla).features(requests)
    assert np.array_equal(served, _policy(config, vla=vla, indicator="negative").features(requests))
    cameras = requests[0].observation.images
    recorded = _policy(config, vla=vla).batch_features(
        images={camera: np.stack([asked.observation.images[camera] for asked in requests]) for camera in cameras},
        prompts=[asked.observation.prompt for asked in requests],
        state=np.stack([asked.observation.state for asked in requests]),
    )
    assert recorded.shape == (3, config.feature_dim)
    assert np.allclose(recorded, served, atol=1e-4)


def test_actions_that_are_not_finite_are_an_error_that_names_the_episode():
    vla = model(nano_like())
    vla.expert.action_out.bias.data[0] = float("nan")
    with pytest.raises(PolicyError, match=r"tick 4 of the episode with seed 3"):
        _policy(vla=vla).infer([request(seed=3, tick=4)])


def test_answering_does_not_touch_the_global_generator_or_training_data():
    policy = _policy()
    sample = batch()
    before = {camera: pixels.copy() for camera, pixels in sample.images.items()}
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    policy.infer([request(seed=0)])
    policy.batch_features(images=sample.images, prompts=sample.prompt, state=sample.state)
    assert torch.equal(torch.rand(2), expected)
    assert all(np.array_equal(sample.images[camera], before[camera]) for camera in before)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"num_flow_steps": 0}, "num_flow_steps"),
        ({"batch_size": 0}, "batch_size"),
        ({"guidance": 2.0, "indicator": "absent"}, "guidance"),
        ({"guidance": 2.0, "indicator": "negative", "guided_from": "negative"}, "nothing to guide by"),
        ({"guided_from": "positive"}, "inference.guided_from is 'positive'; use 'absent' or 'negative'"),
        ({"committed": "hoped"}, "'trained' or 'guided'"),
        ({"committed_limit": 0.0}, "committed_limit"),
    ],
)
def test_options_that_make_no_sense_are_named(options, named):
    with pytest.raises(OptionError, match=named):
        _policy(**options)
