"""Episodes on a robot, in virtual time: limits hold, what is recorded is what was executed, and what breaks is opened anew."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from opentau.errors import RobotError
from opentau.types import Outcome, Phase, Source
from robot_bridge.playing.chunking import ChunkingOptions
from robot_bridge.workcell.robot_env import RobotEnv
from robot_bridge.workcell.safety import Hold
from tests.fakes import FakeArm
from tests.unit.bridge.rigs import PLAN, ScriptedTeleop, require_within_limits, rig


def test_an_episode_on_a_robot_records_what_was_executed_and_how():
    run = rig()
    played = run.play()
    episode = played.episode
    assert played.result.outcome is Outcome.TIMEOUT
    assert len(episode) == played.result.num_steps == 60
    np.testing.assert_array_equal(episode.executed_action, np.array(run.arm.commands)[:60])
    np.testing.assert_array_equal(episode.action, episode.executed_action)
    assert episode.sim_state.shape == (60, 0)
    assert episode.limits_id == played.limits_id == run.cell.limits.id
    assert set(episode.source) == {Source.AUTONOMOUS}
    is_waiting = episode.robot["fsm_state"] == Phase.RESUME
    assert is_waiting.tolist() == [True] * 3 + [False] * 57, "the first chunk takes three ticks; then none is waited for"
    np.testing.assert_array_equal(np.isnan(episode.policy_action[:, 0]), is_waiting)
    assert (episode.robot["hold_level"] == Hold.NONE)[3:].all()
    np.testing.assert_allclose(episode.robot["obs_age_ms"], 20.0)
    require_within_limits(run.arm.commands)
    assert played.report.num_held == 0
    assert played.report.timing.num_missed == 0
    assert played.report.delay_ticks == 3
    assert [request.prefix is None for request in run.link.requests].count(True) == 1


def test_a_policy_that_jumps_is_clamped_counted_and_marked_frame_by_frame():
    run = rig(jump=40.0, chunking=ChunkingOptions(mode="naive", num_warm_up=0))
    played = run.play()
    masks = played.episode.robot["clip_mask"]
    assert masks.shape == (60, 3)
    assert played.num_clipped_actions == np.count_nonzero(masks.any(axis=1)) > 5
    is_changed = np.abs(played.episode.policy_action - played.episode.executed_action) > 1e-3
    assert (masks[is_changed] != 0).all()
    require_within_limits(run.arm.commands)


def test_failing_hardware_aborts_the_episode_keeps_it_and_is_opened_anew():
    run = rig(arm=FakeArm(fails_at=20))
    played = run.play()
    assert played.result.outcome is Outcome.ABORTED
    assert "elbow" in played.result.message
    assert len(played.episode) == 20
    assert run.play(dataclasses.replace(PLAN, episode_id="e/1")).result.outcome is Outcome.TIMEOUT
    assert run.arm.num_connections == 2


def test_tasks_share_one_robot_and_one_connection():
    run = rig()
    other = RobotEnv(run.cell, task_id="arm/1", prompt="bow", max_steps=5)
    run.play()
    other.begin(dataclasses.replace(PLAN, task_id="arm/1"))
    other.reset()
    run.play(dataclasses.replace(PLAN, episode_id="e/1"))
    assert run.arm.num_connections == 1
    other.close()
    assert run.play(dataclasses.replace(PLAN, episode_id="e/2")).result.outcome is Outcome.TIMEOUT
    assert run.arm.num_connections == 2


def test_a_device_that_fails_aborts_the_episode_and_is_opened_anew_with_the_robot():
    class Flaky(ScriptedTeleop):
        num_connections = 0

        def connect(self) -> None:
            self.num_connections += 1

        def wants_control(self) -> bool:
            if self.tick == 10:
                raise RobotError("the leader arm does not answer; check its cable")
            return False

    teleop = Flaky()
    run = rig(teleop=teleop)
    played = run.play()
    assert (played.result.outcome, len(played.episode)) == (Outcome.ABORTED, 10)
    assert "leader" in played.result.message
    assert run.play(dataclasses.replace(PLAN, episode_id="e/1")).result.outcome is Outcome.TIMEOUT
    assert teleop.num_connections == 2


def test_a_sensor_that_fell_silent_ends_the_episode_and_is_named():
    run = rig()
    run.arm.reading_age_s = 1.5
    with pytest.raises(RobotError, match=r"reading of state is 1\.50 s old"):
        run.play()
