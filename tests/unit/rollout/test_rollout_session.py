"""Whole rollouts with real station processes: same plans, same results, whatever happens to the stations."""

from __future__ import annotations

import os
import signal
import socket
from collections import Counter
from collections.abc import Sequence

import numpy as np
import psutil
import pytest

from opentau.errors import InterfaceMismatch, LinkError, OptionError, PolicyError, StationError
from opentau.events import EPISODE_FINISHED, STATION, EventLog, EventReader
from opentau.rollout.session import RolloutSession
from opentau.types import ActionChunk, Actor, Episode, EpisodeResult, Outcome, PolicyRequest
from tests.fakes import DistanceCritic, ScriptedPolicy, counting_interface
from tests.unit.rollout.sessions import contents, mixed_plans, options, plan, play


@pytest.fixture(scope="module")
def undisturbed(request: pytest.FixtureRequest) -> list[tuple]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(request.config.rootpath))
        return contents(*play(mixed_plans(), options(num_stations=1)))


def test_results_come_in_plan_order_with_frames_where_asked_for(undisturbed):
    assert [result.plan for result, _ in undisturbed] == mixed_plans()
    assert [digest is not None for _, digest in undisturbed] == [plan.is_recorded for plan in mixed_plans()]
    assert len({result.digest for result, _ in undisturbed}) == len(undisturbed)
    assert Outcome.ERROR not in {result.outcome for result, _ in undisturbed}


def test_only_supervised_episodes_are_intervened_in(undisturbed):
    intervened = {result.plan.is_supervised for result, _ in undisturbed if result.num_intervention_steps}
    assert intervened == {True}


def test_two_stations_give_the_same_episodes_as_one(undisturbed):
    assert contents(*play(mixed_plans(), options(num_stations=2))) == undisturbed


def test_a_station_killed_in_mid_episode_changes_nothing(undisturbed, tmp_path):
    killed = []
    arrived: dict[int, Episode | None] = {}
    rollout = options(env={"step_s": 0.002})

    def kill_one(result: EpisodeResult, episode: Episode | None) -> None:
        assert result.plan.index not in arrived, "an episode arrived twice"
        arrived[result.plan.index] = episode
        if len(arrived) in (2, 5):
            station_id, pid = max(session.station_pids().items())
            os.kill(pid, signal.SIGKILL)
            killed.append(station_id)

    with (
        EventLog(tmp_path, "test") as events,
        RolloutSession(rollout, policies={"p": ScriptedPolicy()}, critic=DistanceCritic(), events=events) as session,
    ):
        results = session.run(mixed_plans(), on_episode=kill_one)
    assert contents(results, arrived) == undisturbed
    log = EventReader(tmp_path).read_new()
    states = Counter(event["state"] for event in log if event["kind"] == STATION)
    assert states["lost"] == states["replaced"] == len(killed) == 2
    assert Counter(event["kind"] for event in log)[EPISODE_FINISHED] == len(results)


def test_a_station_that_hangs_is_replaced_and_its_episode_redone(tmp_path):
    plans = [plan(i) for i in range(3)]
    expected, _ = play(plans, options())
    hanging = {"hang_at_step": 9, "accident_file": str(tmp_path / "accident")}
    results, _ = play(plans, options(env=hanging, station_silence_s=2.0))
    assert (tmp_path / "accident").exists()
    assert results == expected


def test_batches_hold_at_most_batch_size_rows_and_mix_stations():
    policy = ScriptedPolicy()
    play([plan(i) for i in range(24)], options(num_stations=2, env={"step_s": 0.001}), policy=policy)
    assert max(policy.batch_sizes) == 2
    policy = ScriptedPolicy()
    play([plan(i) for i in range(4)], options(num_stations=2, batch_size=1), policy=policy)
    assert set(policy.batch_sizes) == {1}


def test_two_policies_are_served_side_by_side():
    plans = [plan(0), plan(1, policy_id="q"), plan(2), plan(3, policy_id="q")]
    policies = {"p": ScriptedPolicy(version="1"), "q": ScriptedPolicy(version="2")}
    with RolloutSession(options(), policies=policies) as session:
        results = session.run(plans)
        assert [result.policy_version for result in results] == ["1", "2", "1", "2"]
        assert session.run(plans) == results


def test_a_stopped_run_returns_what_it_has_and_the_session_goes_on(undisturbed):
    seen: list[int] = []
    with RolloutSession(options(), policies={"p": ScriptedPolicy()}, critic=DistanceCritic()) as session:
        results = session.run(
            mixed_plans(), on_episode=lambda result, _: seen.append(result.plan.index), should_stop=lambda: len(seen) >= 3
        )
        assert [result.plan.index for result in results] == sorted(seen)
        assert len(seen) == 3
        arrived: dict[int, Episode | None] = {}
        again = session.run(mixed_plans(), on_episode=lambda result, episode: arrived.update({result.plan.index: episode}))
    assert contents(again, arrived) == undisturbed


def test_a_session_leaves_no_process_behind():
    before = set(psutil.Process().children())
    with RolloutSession(options(), policies={"p": ScriptedPolicy()}) as session:
        session.run([plan(0)])
        assert len(set(psutil.Process().children()) - before) == 1
    with pytest.raises(ZeroDivisionError), RolloutSession(options(), policies={"p": ScriptedPolicy()}) as session:
        session.run([plan(0), plan(1)], on_episode=lambda result, episode: 1 // 0)
    assert set(psutil.Process().children()) <= before


def test_a_policy_of_another_interface_is_refused_with_a_table():
    policy = ScriptedPolicy(interface=counting_interface(action_names=("dx", "dz")))
    with pytest.raises(InterfaceMismatch, match=r"action_names: policy expects \['dx', 'dz'\], station offers \['dx', 'dy'\]"):
        play([plan(0)], options(), policy=policy)


def test_an_environment_that_fails_ends_its_episode_in_an_error_and_nothing_else(tmp_path):
    breaking = {"fail_at_step": 9, "accident_file": str(tmp_path / "accident")}
    results, arrived = play([plan(i) for i in range(3)], options(env=breaking, num_stations=1))
    assert [result.outcome is Outcome.ERROR for result in results] == [True, False, False]
    assert results[0].message == "RuntimeError: the point broke in step 9"
    assert arrived[0] is None


def test_too_many_failed_episodes_end_the_run_with_the_last_message():
    with pytest.raises(StationError, match=r"3 episodes ended in an error; the limit is 2\. .*the point broke"):
        play([plan(i) for i in range(6)], options(env={"fail_at_step": 3}, max_episode_errors=2))


def test_actions_that_are_not_finite_end_the_episode_in_a_named_error():
    (result,), _ = play([plan(0)], options(), policy=ScriptedPolicy(bad_at_tick=4))
    assert result.outcome is Outcome.ERROR
    assert "policy scripted-1 proposed actions that are not finite" in result.message


class BrokenPolicy(ScriptedPolicy):
    def infer(self, requests: Sequence[PolicyRequest]) -> list[ActionChunk]:
        raise MemoryError("out of memory")


def test_a_policy_that_raises_ends_the_run_with_its_words():
    with pytest.raises(PolicyError, match=r"policy 'p' \(scripted-1\) failed on 1 observations .*MemoryError: out of memory"):
        play([plan(0)], options(), policy=BrokenPolicy())


def test_an_environment_that_cannot_be_made_ends_the_run_at_once_with_the_reason():
    with pytest.raises(StationError, match=r"cannot start .*no usable OpenGL"):
        play([plan(0)], options(env={"fail_at_start": "no usable OpenGL"}))


def test_an_episode_that_kills_every_station_ends_the_run_with_the_last_words():
    deadly = {"target": "tests.unit.rollout.deadly:DeadlyExpert", "args": {}}
    plans = [plan(0, actor=Actor.EXPERT, policy_id="")]
    with pytest.raises(StationError, match=r"(?s)episode e/0 lost its station 3 times; the limit is 2\..*bad instruction"):
        play(plans, options(expert=deadly, max_losses=2))


def test_a_busy_port_is_refused_before_anything_starts():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(LinkError, match=f"cannot listen on 127.0.0.1:{port}"):
            play([plan(0)], options(inference_port=port))


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"task_id": "counting/7"}, "unknown task 'counting/7'"),
        ({"policy_id": "pp"}, "unknown policy 'pp'"),
        ({"is_supervised": True, "is_recorded": False}, "evaluation never intervenes"),
    ],
)
def test_plans_that_cannot_be_played_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        play([plan(0, **wrong)], options())


def test_a_policy_whose_chunks_are_too_short_is_refused_with_the_fix():
    with pytest.raises(OptionError, match=r"predicts 7 actions; .* is 8. Set execute_horizon to at most 5"):
        RolloutSession(options(), policies={"p": ScriptedPolicy(action_horizon=7)})


def test_uploaded_episodes_are_exactly_what_was_played():
    (result,), arrived = play([plan(0)], options())
    episode = arrived[0]
    assert episode.episode_id == "e/0"
    assert len(episode) == result.num_steps
    assert {name: column.dtype for name, column in episode.columns().items()} == {
        "state": np.float32,
        "action": np.float32,
        "policy_action": np.float32,
        "executed_action": np.float32,
        "source": np.int8,
        "reward": np.float32,
        "value": np.float32,
        "sim_state": np.float64,
        "images.agentview": np.uint8,
        "images.wrist": np.uint8,
    }
