"""The SO-101 twin: servos with the arm's limits, joints in the units of LeRobot's datasets, an expert that copes."""

from __future__ import annotations

import numpy as np
import pytest

from envs.experts.so101 import HOVER_M, So101Expert, nearest_roll, pointing_down
from envs.perturbations import JointBursts
from envs.twin.environment import CONTROL_HZ, NAMES, UNITS, So101Env
from envs.twin.plant import JOINTS, So101Plant

TICK_S = 1.0 / CONTROL_HZ


@pytest.fixture
def plant() -> So101Plant:
    return So101Plant(placement_range=1.0)


def settle(plant: So101Plant, seconds: float = 1.0) -> None:
    plant.advance(seconds)


def test_servos_reach_their_goals_up_to_friction_and_the_arms_weight(plant: So101Plant) -> None:
    goals = np.array([0.6, -0.2, 0.4, 0.9, -0.5, 0.8])
    plant.set_goals(goals)
    settle(plant, 2.0)
    np.testing.assert_allclose(plant.positions(), goals, atol=0.06)
    plant.set_goals(goals + plant.droop())
    settle(plant)
    np.testing.assert_allclose(plant.positions()[:5], goals[:5], atol=0.01)


def test_a_joint_turns_no_faster_than_the_servo_can(plant: So101Plant) -> None:
    goals = plant.positions()
    goals[0] = 1.8
    plant.set_goals(goals)
    speeds = []
    for _ in range(15):
        plant.advance(TICK_S)
        speeds.append(plant.velocities()[0])
    assert 4.0 < max(speeds) < 4.9  # rad/s
    assert np.abs(plant.torques()).max() <= 1.0


def test_goals_end_at_the_joints_ranges(plant: So101Plant) -> None:
    plant.set_goals(np.full(len(JOINTS), 9.0))
    np.testing.assert_array_equal(plant.data.ctrl, plant.ranges_rad[:, 1])


def test_an_arm_without_power_gives_way(plant: So101Plant) -> None:
    plant.set_torque_enabled(np.zeros(len(JOINTS), bool))
    before = plant.grip()[2]
    settle(plant, 2.0)
    assert plant.grip()[2] < before - 0.02
    assert not plant.torques().any()
    plant.reset(seed=0)
    assert np.abs(plant.torques()).max() < 0.2
    plant.advance(TICK_S)
    assert plant.torques().any()


def test_time_passes_in_whole_steps_and_nothing_of_it_is_lost(plant: So101Plant) -> None:
    for _ in range(300):
        plant.advance(0.0031)
    assert plant.data.time == pytest.approx(0.93, abs=plant.model.opt.timestep)


def test_equal_seeds_and_goals_give_equal_futures() -> None:
    states = []
    for _ in range(2):
        plant = So101Plant()
        plant.reset(seed=5)
        for tick in range(40):
            plant.set_goals(plant.positions() + 0.05 * np.sin(tick))
            plant.advance(TICK_S)
        states.append(plant.get_state())
    np.testing.assert_array_equal(*states)


def test_the_hand_points_down_where_it_is_wanted(plant: So101Plant) -> None:
    for x, y, z in [(0.15, -0.1, 0.05), (0.2, 0.08, 0.09), (0.13, 0.0, 0.03)]:
        plant.data.qpos[plant._qpos[:5]] = pointing_down(np.array([x, y, z]), roll=0.3)
        plant.data.qvel[:] = 0.0
        plant.advance(0.0)
        plant.set_state(plant.get_state())
        np.testing.assert_allclose(plant.grip(), [x, y, z], atol=1e-6)
        np.testing.assert_allclose(plant.data.site("grip").xmat.reshape(3, 3)[:, 0], [0.0, 0.0, -1.0], atol=1e-6)


@pytest.mark.parametrize("yaw", [-1.2, -0.3, 0.0, 0.7, 2.0])
def test_the_jaws_close_across_two_faces(yaw: float) -> None:
    roll = nearest_roll(pan=0.4, yaw=yaw)
    assert abs(roll) <= np.pi / 4 + 1e-9
    assert np.isclose(np.sin(4 * (0.4 - roll - yaw)), 0.0, atol=1e-9)


def test_joints_speak_degrees_and_the_gripper_per_cent() -> None:
    env = So101Env(image_size=16)
    state, _ = env.reset(seed=0)
    assert dict(zip(NAMES, UNITS, strict=True))["gripper.pos"] == "percent of range"
    np.testing.assert_allclose(state["state"][:5], np.degrees(env.plant.positions()[:5]), rtol=1e-5)
    low, high = env.plant.ranges_rad[-1]
    assert state["state"][5] == pytest.approx(100 * (env.plant.positions()[5] - low) / (high - low), rel=1e-5)
    np.testing.assert_allclose(env.units.to_rad(state["state"]), env.plant.positions(), atol=1e-6)
    np.testing.assert_allclose([env.units.low[-1], env.units.high[-1]], [0.0, 100.0], atol=1e-4)
    env.close()


@pytest.mark.parametrize("seed", range(5))
def test_the_expert_finishes_whatever_it_finds(seed: int) -> None:
    env = So101Env(image_size=16, placement_range=0.5, max_steps=400)
    env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    expert, target = So101Expert(env), env.units.from_rad(env.plant.positions())
    for _ in range(50):  # somebody else waves the arm about
        target = np.clip(target + rng.uniform(-5.0, 5.0, 6), env.units.low, env.units.high)
        env.advance(target)
    expert.start(seed=seed, is_clean=True)
    outcomes = [env.advance(expert.act())[1] for _ in range(250)]
    env.close()
    assert any(outcomes)


def test_the_expert_takes_a_cube_that_it_lost_again() -> None:
    env = So101Env(image_size=16)
    env.reset(seed=1)
    expert = So101Expert(env)
    expert.start(seed=1, is_clean=True)
    while expert.phase != "carry":
        env.advance(expert.act())
    address = env.plant.model.joint("cube").qposadr[0]
    env.plant.data.qpos[address : address + 3] = 0.18, -0.06, 0.0125
    phases = []
    for _ in range(150):
        is_success = env.advance(expert.act())[1]
        phases.append(str(expert.phase))
        if is_success:
            break
    env.close()
    assert is_success
    assert "reach" in phases
    assert env.plant.cube()[0][2] < HOVER_M


def test_bursts_hold_joints_off_and_leave_the_gripper_alone() -> None:
    bursts, target = JointBursts(num_joints=6, episode_share=1.0), np.arange(6, dtype=np.float32)
    bursts.start(seed=2)
    executed = np.stack([bursts.apply(target) for _ in range(200)])
    offsets = executed - target
    assert (offsets[:, :5] != 0.0).any(axis=0).all()
    assert np.abs(offsets).max() <= 8.0 + 1e-5
    assert not offsets[:, 5].any()
    assert 0.05 < (offsets != 0.0).any(axis=1).mean() < 0.6
