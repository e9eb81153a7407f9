"""Episodes in virtual time: who acted, what was kept, and that nothing depends on anything but the plan."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from opentau.errors import OptionError, PolicyError
from opentau.types import Actor, EpisodePlan, Fallback, Outcome, PolicyRequest, Source
from robot_bridge.playing.chunking import ChunkingOptions
from robot_bridge.playing.playback import PlaybackOptions
from robot_bridge.playing.player import EpisodePlayer
from robot_bridge.wire.payloads import ChunkReply, PlayedEpisode
from tests.fakes import CountingEnv, CountingExpert, DistanceCritic, ScriptedPolicy, ShakyHand, TellingExpert

PLAN = EpisodePlan(index=0, episode_id="e/0", task_id="counting/0", seed=5, actor=Actor.POLICY, policy_id="p")
DEMONSTRATION = dataclasses.replace(PLAN, actor=Actor.EXPERT, policy_id="")


class DirectLink:
    """A policy in the same process; answers each request once it is waited for, a stale reply first."""

    def __init__(self, policy: ScriptedPolicy, *, critic: DistanceCritic | None = None) -> None:
        self.requests: list[PolicyRequest] = []
        self._policy, self._critic = policy, critic
        self._waiting: list[ChunkReply] = []
        self._seq = 0

    def next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def ask(self, plan: EpisodePlan, request: PolicyRequest, *, seq: int) -> None:
        self.requests.append(request)
        (chunk,) = self._policy.infer([request])
        if self._critic is not None:
            chunk = dataclasses.replace(chunk, value=float(self._critic.values([request])[0]))
        poison = dataclasses.replace(chunk, actions=np.full_like(chunk.actions, 9.0), value=None)
        self._waiting += [
            ChunkReply(seq=seq - 1, episode_id=plan.episode_id, chunk=poison),
            ChunkReply(seq=seq, episode_id="another", chunk=poison),
            ChunkReply(seq=seq, episode_id=plan.episode_id, chunk=chunk),
        ]

    def next_reply(self) -> ChunkReply:
        return self._waiting.pop(0)


class TakeOver:
    """A supervisor that takes over in given ticks."""

    def __init__(self, *stretches: range) -> None:
        self._stretches = stretches
        self.values: list[float | None] = []

    def start(self, plan: EpisodePlan) -> None: ...

    def wants_control(self, *, tick: int, state: np.ndarray, value: float | None, is_intervening: bool) -> bool:
        self.values.append(value)
        return any(tick in stretch for stretch in self._stretches)


def play(plan: EpisodePlan, *, policy: ScriptedPolicy | None = None, env: CountingEnv | None = None, **parts) -> PlayedEpisode:
    env = env or CountingEnv()
    playback = {"execute_horizon": 5, "delay_ticks": 0, "is_step": (True, True), "control_hz": 20.0}
    playback |= {name: parts.pop(name) for name in ("execute_horizon", "delay_ticks", "chunking") if name in parts}
    options = {
        "link": DirectLink(policy or ScriptedPolicy()),
        "expert": CountingExpert(env),
        "options": PlaybackOptions(**playback),
        "on_tick": lambda: None,
    }
    return EpisodePlayer(env, **(options | parts)).play(plan)


def test_a_policy_episode_records_what_the_policy_saw_and_did():
    played = play(PLAN, policy=ScriptedPolicy(noise=0.1, speed=1.0))
    episode = played.episode
    assert played.result.outcome is Outcome.SUCCESS
    assert len(episode) == played.result.num_steps
    assert set(episode.source) == {Source.AUTONOMOUS}
    assert episode.reward[-1] == 1.0
    assert not episode.reward[:-1].any()
    assert np.isnan(episode.value).all()
    assert np.isfinite(episode.policy_action).all()
    np.testing.assert_array_equal(episode.action, episode.executed_action)
    np.testing.assert_allclose(episode.state[:, :2], episode.sim_state[:, :2], atol=1e-6)
    np.testing.assert_allclose(np.diff(episode.sim_state[:, :2], axis=0), 0.1 * episode.executed_action[:-1], atol=1e-6)


def test_an_unrecorded_episode_has_the_same_digest_and_is_seen_only_when_a_chunk_is_due():
    env = CountingEnv()
    before = env.num_observations
    played = play(dataclasses.replace(PLAN, is_recorded=False), env=env)
    reset = 1
    assert played.episode is None
    assert env.num_observations - before - reset == -(-played.result.num_steps // 5)
    assert played.result.digest == play(PLAN).result.digest


def test_another_seed_gives_another_digest():
    assert play(dataclasses.replace(PLAN, seed=6)).result.digest != play(PLAN).result.digest


def test_official_states_do_not_depend_on_the_seed():
    first, second = (play(dataclasses.replace(PLAN, seed=seed, initial_state=3)).episode for seed in (1, 2))
    np.testing.assert_array_equal(first.sim_state[0], second.sim_state[0])


def test_an_expert_that_says_what_it_does_has_it_written_down_frame_by_frame():
    env = CountingEnv()
    env.object_names = TellingExpert.object_names
    plan = dataclasses.replace(PLAN, actor=Actor.EXPERT)
    told = play(plan, env=env, expert=TellingExpert(env)).episode
    assert set(told.subtasks) == {"move the point to the target", "place the point on the target"}
    assert told.subtasks[-1] == "place the point on the target"
    assert len(told.subtasks) == len(told)
    silent = play(plan).episode
    assert silent.subtasks == ()
    np.testing.assert_array_equal(silent.action, told.action)


def test_only_the_frames_of_an_intervention_have_a_subtask():
    env = CountingEnv()
    env.object_names = TellingExpert.object_names
    plan = dataclasses.replace(PLAN, is_supervised=True)
    episode = play(
        plan, env=env, policy=ScriptedPolicy(speed=0.1), expert=TellingExpert(env), supervisor=TakeOver(range(4, 7))
    ).episode
    assert Source.INTERVENTION in episode.source
    assert [bool(subtask) for subtask in episode.subtasks] == (episode.source == Source.INTERVENTION).tolist()


def test_what_a_policy_says_it_is_about_is_written_down_with_what_it_does():
    class Saying(ScriptedPolicy):
        def infer(self, requests):
            return [
                dataclasses.replace(c, subtask=f"from {r.tick}") for r, c in zip(requests, super().infer(requests), strict=True)
            ]

    episode = play(PLAN, policy=Saying()).episode
    assert episode.subtasks == tuple(f"from {tick - tick % 5}" for tick in range(len(episode)))


def test_chunks_that_stand_in_for_others_are_counted():
    class Stammering(ScriptedPolicy):
        def infer(self, requests):
            return [
                dataclasses.replace(c, fallback=Fallback.HELD if r.tick else None)
                for r, c in zip(requests, super().infer(requests), strict=True)
            ]

    link = DirectLink(Stammering())
    assert play(PLAN, link=link).num_fallbacks == len(link.requests) - 1 > 0
    assert play(PLAN).num_fallbacks == 0


def test_stale_replies_are_never_played():
    assert np.abs(play(PLAN).episode.policy_action).max() < 9.0


def test_demonstrations_keep_the_clean_action_and_the_perturbed_one():
    episode = play(DEMONSTRATION, perturbation=ShakyHand()).episode
    assert set(episode.source) == {Source.DEMONSTRATION}
    assert np.isnan(episode.policy_action).all()
    assert (episode.action != episode.executed_action).any()
    assert np.abs(episode.executed_action).max() <= 1.0
    assert episode.policy_version == "CountingExpert"


def test_actions_outside_the_action_space_are_clipped_and_counted():
    played = play(PLAN, policy=ScriptedPolicy(noise=2.0))
    wild = np.abs(played.episode.policy_action).max(axis=1) > 1.0
    assert played.num_clipped_actions == np.count_nonzero(wild) > 0
    assert np.abs(played.episode.executed_action).max() <= 1.0


@pytest.mark.parametrize("delay_ticks", [0, 1, 4])
def test_a_delay_sends_the_actions_that_are_then_really_played(delay_ticks):
    link = DirectLink(ScriptedPolicy())
    episode = play(PLAN, link=link, delay_ticks=delay_ticks).episode
    ticks = [request.tick for request in link.requests]
    assert ticks[:3] == [0, 5 - delay_ticks, 10 - delay_ticks]
    for request in link.requests:
        if request.prefix is not None and request.tick + delay_ticks < len(episode):
            np.testing.assert_array_equal(request.prefix, episode.policy_action[request.tick :][:delay_ticks])


@pytest.mark.parametrize("mode", ["trained", "guided", "blend", "naive", "hold"])
def test_a_delay_that_cannot_be_bridged_is_held_through_in_virtual_time(mode):
    """Chunks of 12, 5 of them played: a delay of 5 is bridged, one of 8 is not; holding is no step of the point."""
    held = {}
    for delay_ticks in (5, 8):
        played = play(PLAN, delay_ticks=delay_ticks, chunking=ChunkingOptions(mode=mode), reports=True)
        episode, is_held = played.episode, np.isnan(played.episode.policy_action[:, 0])
        assert not episode.executed_action[is_held].any()
        assert played.report.num_held == np.count_nonzero(is_held)
        assert played.num_refused_chunks % 2 == 0, "the link's stale and foreign replies, no others"
        held[delay_ticks] = is_held
    assert held[5].any() == (mode == "hold")
    assert held[8][:18].tolist() == [False] * 5 + [True] * 8 + [False] * 5
    assert played.report.seams.num_seams > 0
    assert play(PLAN, delay_ticks=8).report is None, "nobody asked for it"


def test_an_intervention_is_marked_and_followed_by_a_fresh_chunk():
    link, supervisor = DirectLink(ScriptedPolicy(speed=0.0)), TakeOver(range(7, 10), range(12, 13))
    plan = dataclasses.replace(PLAN, is_supervised=True)
    played = play(plan, link=link, supervisor=supervisor, env=CountingEnv(max_steps=20), execute_horizon=6, delay_ticks=2)
    episode = played.episode
    marked = np.flatnonzero(episode.source == Source.INTERVENTION)
    assert marked.tolist() == [7, 8, 9, 12]
    assert played.result.num_intervention_steps == 4
    assert set(np.delete(episode.source, marked)) == {Source.AUTONOMOUS}
    assert np.flatnonzero(np.isnan(episode.policy_action[:, 0])).tolist() == [8, 9]
    np.testing.assert_array_equal(episode.action, episode.executed_action)
    fresh = [request.tick for request in link.requests if request.prefix is None]
    assert fresh == [0, 10, 13]


def test_the_value_reaches_the_supervisor_and_the_frame_of_its_observation():
    link, supervisor = DirectLink(ScriptedPolicy(), critic=DistanceCritic()), TakeOver()
    episode = play(dataclasses.replace(PLAN, is_supervised=True), link=link, supervisor=supervisor, delay_ticks=2).episode
    asked = [request.tick for request in link.requests if request.tick + 2 <= len(episode) - 1 or request.tick == 0]
    assert np.flatnonzero(np.isfinite(episode.value)).tolist() == asked
    heard = [tick for tick, value in enumerate(supervisor.values) if value is not None]
    assert heard == [0, *(tick + 2 for tick in asked[1:])]


def test_actions_that_are_not_finite_are_refused_by_name():
    with pytest.raises(PolicyError, match=r"policy scripted-1 proposed actions that are not finite .* tick 5"):
        play(PLAN, policy=ScriptedPolicy(bad_at_tick=3))


def test_an_episode_that_needs_an_expert_or_a_supervisor_says_so():
    with pytest.raises(OptionError, match="needs an expert"):
        play(DEMONSTRATION, expert=None)
    with pytest.raises(OptionError, match="set `supervisor`"):
        play(dataclasses.replace(PLAN, is_supervised=True))
