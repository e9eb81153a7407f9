"""Choosing among chunks by a critic that sees them: what it learns, what it scores, and what it is refused for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from opentau.data.codec import Codec
from opentau.data.frames import FrameTable
from opentau.errors import CheckpointError, OptionError
from opentau.policies.config import IndicatorPlace, nano
from opentau.policies.embodiment import Embodiment
from opentau.policies.options import InferenceOptions, identifying
from opentau.policies.policy import VLAPolicy
from opentau.policies.processor import Processor
from opentau.policies.text_tokenizer import TextTokenizer
from opentau.policies.vla import VLA
from opentau.training.critic import CriticFit
from opentau.types import Observation, PolicyRequest, Source
from opentau.value.choosing import ChoiceByValue
from opentau.value.critic import CriticConfig, new_critic
from opentau.value.features import InputSizes
from opentau.value.observed import Exchanged, PlayedActions
from opentau.value.options import CriticOptions, FitOptions, ValueOptions
from opentau.value.table import ValueTable
from tests.fakes import counting_interface

SIZE, NUM_ACTIONS, HORIZON = 16, 3, 8
OPTIONS = CriticOptions(features={"target": "opentau.value.features:ChunkFeatures", "args": {}}, hidden_dim=64)
PROMPT = "do box/0"


def table_where_actions_decide(make_table, sketch, *, num_episodes: int = 40) -> ValueTable:
    """Episodes that look alike and succeed if their actions point to the right."""
    frames: ValueTable = make_table([sketch(length=12, is_success=bool(number % 2)) for number in range(num_episodes)])
    rng = np.random.default_rng(0)
    is_right = np.repeat(np.arange(num_episodes) % 2 == 1, 12)
    action = rng.normal(scale=0.2, size=(len(is_right), 2)).astype(np.float32)
    action[:, 0] += np.where(is_right, 0.8, -0.8)
    return replace(frames, table=replace(frames.table, action=action))


def codec_of(table: FrameTable) -> Codec:
    return Codec.from_statistics(table.statistics())


def test_actions_count_where_all_of_them_are_of_one_who_acts_in_one_episode(make_table, sketch) -> None:
    frames = make_table([sketch(length=6, is_success=True), sketch(length=7, is_success=True, interventions=((4, 7),))])
    played = PlayedActions(table=frames.table, codec=codec_of(frames.table), num_actions=NUM_ACTIONS)
    assert np.flatnonzero(played.is_whole).tolist() == [0, 1, 2, 3, 6, 7, 10]
    assert frames.table.source[10] == Source.INTERVENTION
    assert played[np.array([0, 6])].shape == (2, NUM_ACTIONS, 2)


def test_a_critic_of_chunks_tells_good_ones_from_bad_ones_where_observations_do_not(make_table, sketch, tmp_path) -> None:
    frames = table_where_actions_decide(make_table, sketch)
    played = PlayedActions(table=frames.table, codec=codec_of(frames.table), num_actions=NUM_ACTIONS)
    num_frames = len(frames.table)
    inputs = {
        "prefix": np.zeros((num_frames, 4), np.float32),
        "state": frames.table.state,
        "prompt": np.zeros(num_frames, np.int64),
        "chunk": played,
    }
    sizes = InputSizes(prefix_dim=4, state_dim=3, num_prompts=1, num_actions=NUM_ACTIONS, action_dim=2)
    fit = CriticFit(
        frames=frames,
        inputs=inputs,
        config=CriticConfig(options=OPTIONS, sizes=sizes, prompts=(PROMPT,), policy_version="policy"),
        options=ValueOptions(critic=OPTIONS, fit=FitOptions(num_updates=80, batch_size=64, learning_rate=6e-3)),
        seed=0,
        work_dir=tmp_path,
        eligible=played.is_whole,
    )
    critic, rows = fit.without_first_fold()
    assert played.is_whole[rows].all()
    returns = frames.returns(takeover="fail")[rows]
    order = np.arange(num_frames)
    order[rows] = rows[::-1]  # episodes of both outcomes stand by turns, so that most get a chunk of the other kind
    own, others = (
        critic.values({**inputs, "chunk": column}, rows=rows) for column in (played, Exchanged(column=played, order=order))
    )
    assert np.mean((own - returns) ** 2) < 0.25 * np.mean((others - returns) ** 2)


@pytest.fixture(scope="module")
def frames(make_table, sketch) -> ValueTable:
    return table_where_actions_decide(make_table, sketch)


def policy_of(
    table: FrameTable, *, version: str = "policy-1", candidates: int = 3, chosen_by: str = "agreement", critic=None, **changes
) -> VLAPolicy:
    config = nano(
        cameras=("agentview",), state_dim=4, action_dim=2, image_size=SIZE, width=32, depth=1, action_horizon=HORIZON, **changes
    )
    state = np.random.default_rng(0).normal(size=(len(table), 4)).astype(np.float32)
    codec = Codec.from_statistics(replace(table, state=state).statistics())
    interface = replace(counting_interface(SIZE), cameras={"agentview": (SIZE, SIZE, 3)})
    processor = Processor(
        config, embodiments=[Embodiment.sole(interface, codec)], text_tokenizer=TextTokenizer.shipped(), fast_tokenizer=None
    )
    return VLAPolicy(
        VLA.create(config, seed=0),
        processor=processor,
        policy_version=version,
        options=InferenceOptions(num_candidates=candidates, chosen_by=chosen_by, critic=critic),
        batch_size=2,
    )


def critic_of(policy: VLAPolicy, **changes):
    values = {"prefix_dim": policy.model.config.feature_dim, "state_dim": 4, "num_prompts": 1}
    sizes = InputSizes(**{**values, "num_actions": NUM_ACTIONS, "action_dim": 2, **changes})
    return new_critic(
        CriticConfig(options=OPTIONS, sizes=sizes, prompts=(PROMPT,), policy_version=policy.policy_version), seed=0
    ).eval()


def request(seed: int) -> PolicyRequest:
    rng = np.random.default_rng(seed)
    seen = Observation(
        images={"agentview": rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)},
        state=rng.normal(size=4).astype(np.float32),
        prompt=PROMPT,
        time_s=0.0,
    )
    return PolicyRequest(observation=seen, episode_seed=seed, tick=0)


def watched(choice: ChoiceByValue, seen: list[Tensor]):
    def score(requests, prefix, candidates_BNHA):
        seen.extend((candidates_BNHA, choice(requests, prefix, candidates_BNHA)))
        return seen[-1]

    return score


def test_the_chunk_that_the_critic_expects_most_of_is_played(frames) -> None:
    policy = policy_of(frames.table, candidates=5)
    seen: list[Tensor] = []
    policy.choose_by(watched(ChoiceByValue(critic_of(policy), eyes=policy, served=policy), seen))
    chunks = policy.infer([request(0), request(1)])
    candidates_BNHA, score_BN = seen
    assert score_BN.shape == (2, 5)
    assert score_BN.std(dim=1).min() > 0
    for row, chunk in enumerate(chunks):
        expected = policy.processor.decode_action(candidates_BNHA[row, score_BN[row].argmax()].numpy())
        assert np.array_equal(chunk.actions, expected)


def test_a_choice_by_value_without_its_critic_is_no_other_choice(frames) -> None:
    policy = policy_of(frames.table, chosen_by="value", critic="folder")
    assert policy.features([request(0)]).shape == (1, policy.model.config.feature_dim)
    with pytest.raises(OptionError, match="no critic was given"):
        policy.infer([request(0)])
    policy.choose_by(ChoiceByValue(critic_of(policy), eyes=policy, served=policy))
    assert len(policy.infer([request(0)])) == 1


def test_scores_are_those_of_the_critic_on_what_it_reads_of_frames(frames) -> None:
    policy = policy_of(frames.table)
    critic, asked, seen = critic_of(policy), request(0), []
    policy.choose_by(watched(ChoiceByValue(critic, eyes=policy, served=policy), seen))
    policy.infer([asked])
    inputs = {
        "prefix": np.repeat(policy.features([asked]), 3, axis=0),
        "state": np.repeat(policy.processor.codec.encode_state(asked.observation.state)[None], 3, axis=0),
        "prompt": np.zeros(3, np.int64),
        "chunk": seen[0][0, :, :NUM_ACTIONS].numpy(),
    }
    assert seen[1][0].tolist() == pytest.approx(critic.values(inputs).tolist(), abs=1e-6)


def test_the_prefix_is_read_once_where_the_critic_reads_the_served_policy_and_else_by_its_own_eyes(frames) -> None:
    policy, twin = policy_of(frames.table), policy_of(frames.table)
    passes = {"policy": 0, "twin": 0}
    for name, model in (("policy", policy.model), ("twin", twin.model)):
        model.vision.register_forward_hook(lambda *_, name=name: passes.update({name: passes[name] + 1}))
    critic = critic_of(policy)
    scores = []
    for eyes, served in ((policy, policy), (twin, policy_of(frames.table, version="policy-2"))):
        seen: list[Tensor] = []
        served.choose_by(watched(ChoiceByValue(critic, eyes=eyes, served=served), seen))
        served.infer([request(0)])
        scores.append(seen[1])
    assert passes == {"policy": 1, "twin": 1}
    # The same weights under another name are other eyes, and see the same.
    assert torch.allclose(scores[0], scores[1], atol=1e-6)


def test_a_choice_by_value_is_the_same_in_any_company_and_again(frames) -> None:
    policy = policy_of(frames.table)
    policy.choose_by(ChoiceByValue(critic_of(policy), eyes=policy, served=policy))
    alone = [policy.infer([request(seed)])[0].actions for seed in range(3)]
    for order in ([2, 0, 1], [1, 2, 0]):
        for seed, chunk in zip(order, policy.infer([request(seed) for seed in order]), strict=True):
            assert np.array_equal(chunk.actions, alone[seed])


def test_with_the_indicator_in_the_prompt_the_critic_still_reads_the_plain_task(frames) -> None:
    policy = policy_of(frames.table, indicator_place=IndicatorPlace.PROMPT, max_prompt_tokens=40)
    critic, asked, seen = critic_of(policy), request(0), []
    policy.choose_by(watched(ChoiceByValue(critic, eyes=policy, served=policy), seen))
    policy.infer([asked])
    inputs = {
        "prefix": np.repeat(policy.features([asked]), 3, axis=0),
        "state": np.repeat(policy.processor.codec.encode_state(asked.observation.state)[None], 3, axis=0),
        "prompt": np.zeros(3, np.int64),
        "chunk": seen[0][0, :, :NUM_ACTIONS].numpy(),
    }
    assert seen[1][0].tolist() == pytest.approx(critic.values(inputs).tolist(), abs=1e-6)


def test_other_eyes_other_scales_and_chunks_that_are_too_short_are_refused(frames) -> None:
    policy = policy_of(frames.table)
    with pytest.raises(CheckpointError, match="reads the features of policy policy-1, it was given policy policy-2"):
        ChoiceByValue(critic_of(policy), eyes=policy_of(frames.table, version="policy-2"), served=policy)
    moved = replace(frames.table, action=frames.table.action * 3)
    with pytest.raises(CheckpointError, match="in the scales of another policy"):
        ChoiceByValue(critic_of(policy), eyes=policy, served=policy_of(moved, version="policy-2"))
    with pytest.raises(OptionError, match="the critic reads 9 actions, the policy's chunks have 8"):
        ChoiceByValue(critic_of(policy, num_actions=9), eyes=policy, served=policy)


def test_a_choice_by_value_needs_its_critic_and_candidates_and_is_named_only_where_it_is_used() -> None:
    assert InferenceOptions(num_candidates=2, chosen_by="value", critic="folder").num_candidates == 2
    with pytest.raises(OptionError, match="a choice by value needs the folder of a value stage"):
        InferenceOptions(num_candidates=4, chosen_by="value")
    with pytest.raises(OptionError, match="no other choice reads one"):
        InferenceOptions(num_candidates=4, critic="folder")
    with pytest.raises(OptionError, match=r"'value' of one chunk; set inference.num_candidates=4"):
        InferenceOptions(chosen_by="value", critic="folder")
    with pytest.raises(OptionError, match=r"inference.chosen_by is 'valeu'"):
        InferenceOptions(num_candidates=4, chosen_by="valeu")
    plain = {"guidance": 1.0, "num_candidates": 1, "chosen_by": "agreement", "critic": None}
    assert identifying(plain) == {"guidance": 1.0}
