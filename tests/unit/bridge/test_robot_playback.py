"""Chunks on a robot: nothing is waited for, and whatever comes late, twice or never, the robot holds and goes on."""

from __future__ import annotations

import numpy as np
import pytest

from opentau.types import Outcome, Phase
from robot_bridge.playing.chunking import ChunkingOptions
from robot_bridge.workcell.safety import Hold
from tests.unit.bridge.rigs import require_within_limits, rig


@pytest.mark.parametrize("mode", ["trained", "hold"])
def test_beyond_what_can_be_bridged_the_robot_holds_instead_of_being_refused(mode):
    run = rig(delays=lambda _: 12, chunking=ChunkingOptions(mode=mode, num_warm_up=0), max_steps=100)
    episode = run.play().episode
    is_held = np.isnan(episode.policy_action[:, 0])
    later = is_held[40:]
    assert later.any()
    assert not later.all()
    require_within_limits(run.arm.commands)


def test_a_lost_answer_is_held_through_and_asked_for_again():
    run = rig(delays=lambda seq: None if seq == 3 else 3, max_steps=200)
    played = run.play()
    assert played.report.num_unanswered == 1
    held = np.flatnonzero(played.episode.robot["hold_level"] > 0)
    assert 1 <= len(held) <= 8
    assert np.isfinite(played.episode.policy_action[held[-1] + 1 :]).all()
    require_within_limits(run.arm.commands)


@pytest.mark.parametrize("mode", ["trained", "blend", "naive", "hold"])
@pytest.mark.parametrize("mean_ms", [50, 200, 400, 800])
def test_under_delays_with_jitter_and_losses_every_unplanned_tick_is_held_and_the_robot_goes_on(mode, mean_ms):
    """Answers take half to one and a half times `mean_ms`, one in twenty is lost, and later ones may overtake."""
    rng = np.random.default_rng(mean_ms)
    fates: list[int | None] = [
        None if rng.random() < 0.05 else 1 + round(mean_ms * rng.uniform(0.5, 1.5) / 1000 * 30) for _ in range(1000)
    ]
    run = rig(delays=lambda seq: fates[seq], chunking=ChunkingOptions(mode=mode, num_warm_up=0), max_steps=600)
    played = run.play()
    episode = played.episode
    assert played.result.outcome is Outcome.TIMEOUT
    require_within_limits(run.arm.commands)
    unplanned = np.isnan(episode.policy_action[:, 0])
    is_waiting = episode.robot["fsm_state"] == Phase.RESUME
    np.testing.assert_array_equal(episode.robot["hold_level"] > 0, unplanned & ~is_waiting)
    held = np.flatnonzero(unplanned & ~is_waiting)
    assert played.report.num_held == len(held)
    moving = np.abs(np.diff(episode.executed_action, axis=0)).max(axis=1) > 1e-4
    is_braked = [tick for tick in held[1:] if tick - 1 in held and episode.robot["hold_level"][tick] == Hold.DECELERATE]
    assert not moving[[tick - 1 for tick in is_braked if tick - 2 in held]].any(), "at rest two ticks after the last action"
    assert not unplanned[-120:].all(), "it goes on"


def test_while_the_server_is_silent_the_robot_goes_down_the_ladder_and_the_episode_is_kept_as_aborted():
    run = rig(silent_from_s=1.0, max_steps=1000)
    played = run.play()
    assert played.result.outcome is Outcome.ABORTED
    assert "silent for 3 s" in played.result.message
    episode = played.episode
    assert len(episode) == played.result.num_steps == len(episode.robot["hold_level"])
    assert 110 <= len(episode) <= 130
    levels = [level for level in dict.fromkeys(episode.robot["hold_level"].tolist()) if level]
    assert levels == [Hold.DECELERATE, Hold.DAMPED, Hold.SAFE_POSE]
    np.testing.assert_allclose(episode.executed_action[-1][:2], 0.0, atol=1e-4)
    require_within_limits(run.arm.commands)


def test_a_link_that_lives_but_brings_no_actions_aborts_the_episode_by_rule():
    run = rig(delays=lambda seq: None if seq > 2 else 3, limits={"abort_after_s": 2.0}, max_steps=1000)
    played = run.play()
    assert played.result.outcome is Outcome.ABORTED
    assert "no fresh action for 2.0 s, the limit is 2 s" in played.result.message
    assert len(played.episode) < 100


def test_plans_are_dropped_after_the_loop_stood_still():
    """The process is stopped for two seconds, as a sleeping machine or a debugger would: the plan from before is stale."""
    run = rig(max_steps=100)
    command = run.arm.command

    def sleepy(action: np.ndarray) -> None:
        command(action)
        if len(run.arm.commands) == 40:
            run.cell.ticker.clock.wait_until(run.cell.ticker.clock.now_s() + 2.0)

    run.arm.command = sleepy  # type: ignore[method-assign]
    played = run.play()
    assert played.report.timing.num_missed >= 58
    assert sum(request.prefix is None for request in run.link.requests) == 2
    require_within_limits(run.arm.commands)
