"""Policies that say their actions: what they say is played, and what they cannot say is told, never zeros."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from opentau.errors import OptionError
from opentau.policies.config import FastIds
from opentau.policies.holding import MAX_EPISODES, LastChunks
from opentau.policies.options import InferenceOptions
from opentau.policies.policy import VLAPolicy
from opentau.policies.processor import Processor
from opentau.policies.vla import VLA
from opentau.training.objectives import PolicyObjective
from opentau.training.options import ObjectiveOptions
from opentau.types import Fallback, Indicator
from tests.unit.policies.parts import ACTION_DIM, CAMERAS, HORIZON, batch, model, nano_like, processor, request

VOCABULARY = {"fast_ids": FastIds.VOCABULARY, "text_vocab_size": 1500}


def _policy(config=None, *, vla=None, batch_size=1, action_source="fast", **options):
    config = config or nano_like()
    return VLAPolicy(
        vla or model(config),
        processor=processor(config),
        policy_version="v1",
        options=InferenceOptions(action_source=action_source, **options),
        batch_size=batch_size,
    )


@pytest.mark.parametrize("changes", [{}, VOCABULARY], ids=["appended", "vocabulary"])
def test_a_taught_policy_says_its_chunks_and_they_are_played(changes):
    config = nano_like(**changes)
    vla, made = VLA.create(config, seed=0), processor(config)
    asked = [request(seed=seed) for seed in range(4)]
    sample = _shown(asked, made)
    options = ObjectiveOptions(fast_weight=1.0, flow_weight=1e-9, indicator_dropout=0.0)
    objective = PolicyObjective(vla, processor=made, options=options)
    optimizer = torch.optim.AdamW(vla.parameters(), lr=2e-3)
    for _ in range(80):
        loss, _ = objective(sample)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for chunk, wanted in zip(_policy(config, vla=vla, batch_size=4).infer(asked), sample.action, strict=True):
        tokens = made.fast_tokenizer.encode(wanted[None])[0]
        assert chunk.fallback is None
        assert np.allclose(chunk.actions, made.decode_action(made.fast_tokenizer.decode(tokens)), atol=1e-6)


def test_what_cannot_be_decoded_is_drawn_by_the_flow_first_and_then_held():
    policy, flow = _policy(), _policy(action_source="flow")
    first, later, last = (request(seed=0, tick=tick) for tick in (0, 3, HORIZON))
    drawn = policy.infer([first])[0]
    assert drawn.fallback is Fallback.DRAWN
    assert np.array_equal(drawn.actions, flow.infer([first])[0].actions)
    held = policy.infer([later])[0]
    assert held.fallback is Fallback.HELD
    assert np.array_equal(held.actions[: HORIZON - 3], drawn.actions[3:])
    assert (held.actions[HORIZON - 3 :] == drawn.actions[-1]).all()
    assert policy.infer([last])[0].fallback is Fallback.DRAWN


def test_what_is_held_is_that_of_the_same_episode_and_attempt():
    policy = _policy(batch_size=2)
    policy.infer([request(seed=0, tick=4), request(seed=1, tick=4)])
    other, own = policy.infer([request(seed=2, tick=6), request(seed=1, tick=6)])
    assert (other.fallback, own.fallback) == (Fallback.DRAWN, Fallback.HELD)
    again = policy.infer([request(seed=1, tick=0)])[0]
    assert again.fallback is Fallback.DRAWN
    assert np.array_equal(again.actions, _policy(batch_size=2).infer([request(seed=1, tick=0)])[0].actions)


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_an_episode_is_answered_the_same_in_any_company(batch_size):
    alone, company = _policy(batch_size=batch_size), _policy(batch_size=batch_size)
    for tick in (0, 2, 4):
        answers = company.infer([request(seed=seed, tick=tick) for seed in (3, 1, 0)])
        own = alone.infer([request(seed=1, tick=tick)])[0]
        assert np.array_equal(answers[1].actions, own.actions)
        assert answers[1].fallback == own.fallback


def test_the_last_chunks_of_so_many_episodes_are_kept():
    last = LastChunks()
    for seed in range(MAX_EPISODES + 1):
        last.keep(request(seed=seed), np.zeros((HORIZON, ACTION_DIM), np.float32))
    assert last.rest(request(seed=0, tick=1)) is None
    assert last.rest(request(seed=1, tick=1)) is not None


@pytest.mark.parametrize("changes", [{}, VOCABULARY], ids=["appended", "vocabulary"])
def test_the_models_ids_are_those_that_training_says(changes):
    made, sample = processor(nano_like(**changes)), batch(3, num_padded=0)
    said = made.fast_inputs(sample.action, is_pad_BH=sample.action_is_pad)
    rows = [row[is_target].tolist()[:-1] for row, is_target in zip(said.target_MF, said.is_target_MF, strict=True)]
    assert all(model_id in made.fast_ids for row in rows for model_id in row)
    decoded = made.decode_fast([*rows, []])
    assert np.allclose(np.stack(decoded[:3]), sample.action, atol=0.2)
    assert decoded[3] is None


def test_committed_actions_and_guidance_are_refused():
    with pytest.raises(OptionError, match="commits 2 actions, which action tokens cannot continue"):
        _policy().infer([request(seed=0, committed=np.zeros((2, ACTION_DIM), np.float32))])
    with pytest.raises(OptionError, match="guidance acts on the flow"):
        _policy(guidance=1.5)


def test_a_policy_without_action_tokens_cannot_say_them():
    config = nano_like()
    made = processor(config)
    silent = Processor(config, embodiments=made.embodiments, text_tokenizer=made.text_tokenizer, fast_tokenizer=None)
    with pytest.raises(OptionError, match="no action tokenizer"):
        VLAPolicy(model(config), processor=silent, policy_version="v1", options=InferenceOptions(action_source="fast"))


def _shown(asked, made):
    """Return a batch of the observations of requests, each with a chunk of its own and the positive indicator."""
    seen = [each.observation for each in asked]
    return dataclasses.replace(
        batch(len(asked), num_padded=0),
        images={camera: np.stack([each.images[camera] for each in seen]) for camera in CAMERAS},
        state=made.encode_state(np.stack([each.state for each in seen])),
        prompt=[each.prompt for each in seen],
        indicator=np.full(len(asked), Indicator.POSITIVE, np.int8),
    )
