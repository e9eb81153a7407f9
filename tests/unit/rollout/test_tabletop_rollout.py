"""Rollouts on a simulator: the scripted expert demonstrates, and saves a policy that only wanders."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

from opentau.config import build
from opentau.rollout.options import RolloutOptions
from opentau.rollout.session import RolloutSession
from opentau.types import (
    ActionChunk,
    Actor,
    Episode,
    EpisodePlan,
    EpisodeResult,
    Interface,
    Outcome,
    PolicyRequest,
    derive_seed,
)

TABLETOP = {"target": "envs.tabletop.environment:TabletopEnv", "args": {}}
TASK = "tabletop/0"
CAMERAS = ("agentview", "wrist")


class Wanderer:
    """A policy without any idea."""

    policy_version = "wanderer"
    action_horizon = 8

    def __init__(self, interface: Interface) -> None:
        self.interface = interface

    def infer(self, requests: list[PolicyRequest]) -> list[ActionChunk]:
        return [self._chunk(request) for request in requests]

    def _chunk(self, request: PolicyRequest) -> ActionChunk:
        rng = np.random.default_rng(derive_seed(request.episode_seed, request.tick))
        actions = 0.2 * rng.standard_normal((self.action_horizon, self.interface.action_dim)).astype(np.float32)
        return ActionChunk(actions=actions, policy_version=self.policy_version)


@pytest.fixture(scope="module")
def interface() -> Interface:
    return Interface.from_dict(build(TABLETOP).metadata["interface"])


def plans() -> list[EpisodePlan]:
    common = {"task_id": TASK}
    demonstrations = [EpisodePlan(index=i, episode_id=f"demo/{i}", seed=i, actor=Actor.EXPERT, **common) for i in range(3)]
    supervised = [
        EpisodePlan(index=i, episode_id=f"saved/{i}", seed=i, actor=Actor.POLICY, policy_id="w", is_supervised=True, **common)
        for i in range(3, 6)
    ]
    return demonstrations + supervised


def options(num_stations: int) -> RolloutOptions:
    supervisor_args = {"overtime_fraction": 0.2, "random_takeover_probability": 0.0, "keep_probability": 1.0}
    return RolloutOptions(
        env=TABLETOP,
        tasks={TASK: {"task_id": 0}},
        expert={"target": "envs.experts.pick_place:PickPlaceExpert", "args": {}},
        supervisor={"target": "robot_bridge.supervisors:EpisodeSupervisor", "args": supervisor_args},
        num_stations=num_stations,
        execute_horizon=6,
        delay_ticks=2,
    )


def play(interface: Interface, *, num_stations: int, kill_after: int | None = None) -> list[tuple[EpisodeResult, Episode]]:
    arrived: dict[str, Episode] = {}

    def note(result: EpisodeResult, episode: Episode | None) -> None:
        assert episode is not None, result.message
        arrived[result.plan.episode_id] = episode
        if len(arrived) == kill_after:
            os.kill(next(iter(session.station_pids().values())), signal.SIGKILL)

    with RolloutSession(options(num_stations), policies={"w": Wanderer(interface)}) as session:
        results = session.run(plans(), on_episode=note)
    return [(result, arrived[result.plan.episode_id]) for result in results]


def test_the_expert_demonstrates_and_saves_and_company_and_kills_change_nothing(interface):
    alone = play(interface, num_stations=1)
    for result, episode in alone:
        assert result.outcome is Outcome.SUCCESS, result
        assert set(episode.images) == set(CAMERAS)
    assert [result.num_intervention_steps > 0 for result, _ in alone] == [False] * 3 + [True] * 3
    disturbed = play(interface, num_stations=2, kill_after=2)
    assert [result for result, _ in disturbed] == [result for result, _ in alone]
    assert [episode.digest() for _, episode in disturbed] == [episode.digest() for _, episode in alone]
