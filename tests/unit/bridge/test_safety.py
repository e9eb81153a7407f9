"""Safety: whatever is asked of a robot, it moves within its limits, and where it is allowed to it does what it is asked."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from opentau.errors import OptionError
from robot_bridge.workcell.limits import Limits, TickLimits
from robot_bridge.workcell.safety import Clip, Hold, Motion, Safety, braked, limited
from robot_bridge.workcell.stop import StopLatch
from tests.fakes import ARM_LIMITS, arm_interface

DT = 1 / 30
TICK = TickLimits(
    low=np.array([-90.0, 0.0]), high=np.array([90.0, 100.0]), step=np.array([3.0, 5.0]), change=np.array([0.5, 1.0])
)
"""Per tick of 1/30 s: 90 and 150 a second, 450 and 900 a second squared."""

anything = st.floats(width=32) | st.sampled_from([float("nan"), float("inf"), -float("inf"), 0.0, 89.9, 1e38, -1e38])
within = st.tuples(st.floats(-90, 90, width=32), st.floats(0, 100, width=32))


ROUNDING = 2e-5
"""Of the positions, which are sent as float32: two steps of 7.6e-6 at 90."""


def require_within(limits: TickLimits, before: Motion, after: Motion) -> None:
    assert (after.position >= limits.low - 1e-4).all()
    assert (after.position <= limits.high + 1e-4).all()
    moved = after.position.astype(np.float64) - before.position
    np.testing.assert_allclose(moved, after.step, atol=1e-4)
    assert (np.abs(after.step) <= limits.step + ROUNDING).all()
    assert (np.abs(after.step - before.step) <= limits.change + ROUNDING).all()


@settings(max_examples=150, deadline=None)
@given(within, st.lists(st.tuples(anything, anything), min_size=1, max_size=60))
@example((90.0, 100.0), [(1e38, float("nan"))] * 20 + [(-1e38, 0.0)] * 40)
@example((87.13091278076172, 0.0), [(88.0, 0.0), (89.9, 0.0), (90.0, 0.0), (0.0, 0.0)])
def test_whatever_is_asked_for_the_robot_stays_within_box_velocity_and_acceleration(start, requests):
    motion = Motion.at_rest(np.array(start))
    for request in requests:
        after, clips = limited(TICK, motion, np.array(request))
        require_within(TICK, motion, after)
        is_finite = np.isfinite(request)
        assert (((clips & Clip.NOT_FINITE) != 0) == ~is_finite).all()
        is_changed = is_finite & (np.abs(np.where(is_finite, request, 0.0) - after.position) > 1e-3)
        assert (clips[is_changed] != 0).all()
        motion = after


@settings(max_examples=150, deadline=None)
@given(within, st.lists(st.tuples(anything, anything), max_size=20), within)
def test_a_robot_comes_to_rest_exactly_where_it_is_asked_to_be(start, before, goal):
    motion = Motion.at_rest(np.array(start))
    for request in before:
        motion, _ = limited(TICK, motion, np.array(request))
    for _ in range(200):
        motion, clips = limited(TICK, motion, np.array(goal))
    np.testing.assert_array_equal(motion.position, np.array(goal, np.float32))
    assert not clips.any()
    assert np.abs(motion.step).max() < 1e-4


@settings(max_examples=60, deadline=None)
@given(st.floats(0.05, 0.35), st.floats(5.0, 60.0), st.floats(0, 6.28))
def test_a_request_that_keeps_within_the_limits_is_executed_as_it_is(frequency, amplitude, phase):
    """Sinusoids whose velocity and acceleration stay within the limits, begun at rest after coming to their start."""
    omega = 2 * np.pi * frequency * DT
    if amplitude * omega > 2.9 or amplitude * omega**2 > 0.45:
        amplitude = min(2.9 / omega, 0.45 / omega**2, amplitude)
    path = amplitude * np.sin(omega * np.arange(300) + phase)
    ease = 0.5 - 0.5 * np.cos(np.pi * np.clip(np.arange(300) / 150, 0, 1))  # begins at rest
    wanted = np.stack([path * 0.3 * ease, 50 + 0 * path], axis=1).astype(np.float32)
    motion = Motion.at_rest(wanted[0])
    executed = []
    for request in wanted:
        motion, clips = limited(TICK, motion, request)
        executed.append(motion.position)
        assert not clips.any()
    np.testing.assert_allclose(np.array(executed), wanted, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(within, st.lists(st.tuples(anything, anything), max_size=20))
def test_braking_ends_at_rest_within_the_box(start, before):
    motion = Motion.at_rest(np.array(start))
    for request in before:
        motion, _ = limited(TICK, motion, np.array(request))
    for _ in range(10):
        after = braked(TICK, motion)
        require_within(TICK, motion, after)
        assert (np.abs(after.step) <= np.abs(motion.step) + 1e-12).all()
        motion = after
    assert not motion.step.any()


@pytest.mark.parametrize(
    ("request_", "bits"),
    [((95.0, 50.0), Clip.BOX | Clip.VELOCITY | Clip.ACCELERATION), ((0.4, 50.0), 0), ((2.0, 50.0), Clip.ACCELERATION)],
)
def test_the_reason_of_every_clamp_is_recorded(request_, bits):
    _, clips = limited(TICK, Motion.at_rest(np.array([0.0, 50.0])), np.array(request_))
    assert clips.tolist() == [bits, 0]


def test_a_robot_outside_its_box_may_only_come_back():
    motion = Motion.at_rest(np.array([95.0, 50.0]))
    positions = []
    for _ in range(100):
        motion, _ = limited(TICK, motion, np.array([80.0, 50.0]))
        positions.append(motion.position[0])
    assert max(positions) <= 95.0
    assert positions[-1] == 80.0


# The ladder, the stop and the first run.


def safety(latch: StopLatch | None = None, **changes: object) -> Safety:
    limits = Limits.from_plain({**ARM_LIMITS, **changes})
    interface = arm_interface()
    governor = Safety(limits, TickLimits.of(limits, interface), names=interface.action_names, latch=latch or StopLatch())
    governor.start(np.array([20.0, 10.0, 50.0]))
    return governor


def test_without_fresh_actions_the_robot_brakes_then_is_damped_then_goes_to_its_safe_pose():
    governor, measured = safety(), np.array([25.0, 12.0, 50.0])
    for tick in range(30):
        governor.act(np.array([20.0 + tick, 10.0, 50.0]), now_s=tick * DT, measured=measured)
    levels, last = [], governor.position
    for tick in range(30, 240):
        held = governor.hold(now_s=tick * DT, measured=measured)
        levels.append(held.level)
        assert (np.abs(held.action - last) <= np.array([3.0, 3.0, 5.0]) + 1e-4).all()
        last = held.action
    assert levels == sorted(levels)
    assert levels.index(Hold.DAMPED) == 7  # 250 ms after the last fresh action
    assert levels.index(Hold.SAFE_POSE) in (29, 30)  # a second after it
    np.testing.assert_array_equal(last, np.float32([0.0, 0.0, 50.0]))  # the gripper, left out of the pose, keeps what it holds


def test_a_fresh_action_ends_the_ladder_at_once():
    governor, measured = safety(), np.array([20.0, 10.0, 50.0])
    governor.act(measured, now_s=0.0, measured=measured)
    assert governor.hold(now_s=2.0, measured=measured).level is Hold.SAFE_POSE
    assert governor.act(measured, now_s=2.0 + DT, measured=measured).level is Hold.NONE
    assert governor.hold(now_s=2.0 + 2 * DT, measured=measured).level is Hold.DECELERATE


def test_an_action_that_is_not_finite_is_no_fresh_action():
    governor, measured = safety(), np.array([20.0, 10.0, 50.0])
    governor.act(measured, now_s=0.0, measured=measured)
    held = governor.act(np.array([np.nan, 11.0, 50.0]), now_s=0.5, measured=measured)
    assert held.level is Hold.DAMPED
    assert held.clips.tolist() == [Clip.NOT_FINITE, 0, 0]


def test_a_tripped_stop_holds_against_every_command_until_it_is_released_on_the_spot():
    latch = StopLatch()
    governor, measured = safety(latch), np.array([20.0, 10.0, 50.0])
    for tick in range(10):
        governor.act(np.array([60.0, 10.0, 50.0]), now_s=tick * DT, measured=measured)
    latch.trip("test")
    moved = []
    for tick in range(10, 60):
        before = governor.position
        executed = governor.act(np.array([60.0, 10.0, 50.0]), now_s=tick * DT, measured=measured)
        assert executed.level is Hold.STOPPED
        moved.append(float(np.abs(executed.action - before).max()))
    assert moved == sorted(moved, reverse=True)
    assert not any(moved[10:])
    latch.rearm()
    assert governor.act(np.array([60.0, 10.0, 50.0]), now_s=2.1, measured=measured).level is Hold.NONE


def test_a_first_run_moves_at_a_quarter_of_the_limits_from_the_next_standstill_on():
    def steps(*, is_first: bool) -> np.ndarray:
        governor = safety()
        if is_first:
            governor.slow_down()
        measured = np.array([20.0, 10.0, 50.0])
        path = [governor.act(np.array([80.0, 10.0, 50.0]), now_s=t * DT, measured=measured).action[0] for t in range(40)]
        return np.diff(np.array([20.0, *path], np.float64))

    slow, fast = steps(is_first=True), steps(is_first=False)
    np.testing.assert_allclose(fast.max(), 3.0, atol=1e-4)
    np.testing.assert_allclose(slow.max(), 0.75, atol=1e-4)
    np.testing.assert_allclose(np.diff(slow).max() / np.diff(fast).max(), 0.25, atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"axes": {**ARM_LIMITS["axes"], "wrist": ARM_LIMITS["axes"]["elbow"]}}, "the limits are of"),
        ({"axes": None}, "has no `axes`"),
        (
            {"axes": {**ARM_LIMITS["axes"], "elbow": {"low": 1, "high": 0, "velocity": 1, "acceleration": 1}}},
            "low must be below",
        ),
        ({"axes": {**ARM_LIMITS["axes"], "elbow": {"low": 0, "hgh": 1}}}, "hgh.*high"),
        ({"damped_after_s": 2.0}, "none shorter than the one before"),
        ({"safe_pose": {"elbw": 0.0}}, "elbw.*elbow"),
        ({"start_pose": {"elbow": 1000.0}}, "start_pose.elbow is 1000.0"),
        ({"first_run_scale": 0.0}, "first_run_scale is 0"),
    ],
)
def test_limits_that_are_none_are_refused_by_name(changes, text):
    with pytest.raises(OptionError, match=text):
        TickLimits.of(Limits.from_plain({**ARM_LIMITS, **changes}), arm_interface())


def test_limits_for_steps_instead_of_targets_are_refused():
    interface = dataclasses.replace(arm_interface(), action_space="delta_joint")
    with pytest.raises(OptionError, match="absolute targets"):
        TickLimits.of(Limits.from_plain(ARM_LIMITS), interface)


def test_the_id_of_limits_changes_with_every_limit():
    limits = Limits.from_plain(ARM_LIMITS)
    assert limits.id == Limits.from_plain(ARM_LIMITS).id
    assert limits.id != dataclasses.replace(limits, abort_after_s=11.0).id
