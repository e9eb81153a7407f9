"""The real driver behind limits, in real time: an emulated SO-101 does what safety lets through, and goes down the ladder."""

from __future__ import annotations

import numpy as np

from opentau.types import Actor, EpisodePlan, Outcome
from robot_bridge.robots.calibration import JOINTS
from robot_bridge.robots.plant import FirstOrderArm
from robot_bridge.robots.so101 import So101Follower
from robot_bridge.workcell.cell import Unattended, Workcell
from robot_bridge.workcell.clock import RealClock, Ticker
from robot_bridge.workcell.first_runs import FirstRuns
from robot_bridge.workcell.limits import Limits
from robot_bridge.workcell.robot_env import RobotEnv
from robot_bridge.workcell.safety import Hold
from robot_bridge.workcell.stop import StopLatch
from tests.robots.calibrated import PATIENT_S

PLAN = EpisodePlan(index=0, episode_id="e/0", task_id="arm/0", seed=1, actor=Actor.POLICY, policy_id="p")
SPEED, ACCELERATION = 60.0, 300.0
AXIS = {"low": -60, "high": 60, "velocity": SPEED, "acceleration": ACCELERATION}
LIMITS = {
    "axes": {f"{joint}.pos": AXIS | ({"low": 0, "high": 100} if joint == "gripper" else {}) for joint in JOINTS},
    "start_pose": {"shoulder_pan.pos": 0.0},
    "safe_pose": {"shoulder_pan.pos": -5.0},
}


def test_an_so101_moves_within_its_limits_and_comes_to_its_safe_pose_when_nobody_commands_it(emulated, calibration_file):
    emulator = emulated(plant=FirstOrderArm(start=(0.1, -0.2, 0.3, 0.0, 0.5, -0.4)))
    robot = So101Follower(port=emulator.link, calibration=str(calibration_file), reply_timeout_s=PATIENT_S, max_state_age_s=1.0)
    cell = Workcell(
        robot=robot,
        limits=Limits.from_plain(LIMITS),
        ticker=Ticker(RealClock(), hz=30.0),
        latch=StopLatch(),
        first_runs=FirstRuns(None),
        operator=Unattended(),
    )
    env = RobotEnv(cell, task_id="arm/0", prompt="wave", max_steps=1000)
    env.begin(PLAN)
    observation, _ = env.reset()
    try:
        assert abs(observation["state"][0]) < 2.0, "it begins at its start pose"
        far = observation["state"].copy()
        far[0] = 200.0
        sent, seen, levels = [], [], []
        for tick in range(75):
            seen.append(env.observe()["state"])
            played = env.play(far) if tick < 20 else env.hold()
            sent.append(played.executed.action)
            levels.append(played.executed.level)
            assert played.outcome is None
        path = np.array(sent, np.float64)
        assert (np.abs(np.diff(path, axis=0)) <= SPEED / 30 + 1e-3).all()
        assert (np.abs(np.diff(path, n=2, axis=0)) <= ACCELERATION / 900 + 1e-3).all()
        assert path[:, 0].max() > 15.0
        assert np.array(seen)[:, 0].max() > 10.0, "the arm followed"
        assert [level for level in dict.fromkeys(levels)] == [Hold.NONE, Hold.DECELERATE, Hold.DAMPED, Hold.SAFE_POSE]
        assert path[-1, 0] < path[:, 0].max() - 3.0, "on its way to the safe pose"
        cell.latch.trip("test")
        ended = env.play(far)
        while ended.outcome is None:
            ended = env.play(far)
        assert (ended.outcome, ended.message) == (Outcome.ABORTED, "stopped: test")
    finally:
        env.close()
