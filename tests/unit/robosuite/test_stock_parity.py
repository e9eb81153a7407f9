"""The lean stepping against stock robosuite: trajectories, rewards, checks and placements of every task."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
import pytest

from envs.panda.controller import ARM_JOINTS
from envs.panda.placement import draw_placements
from envs.robosuite.environment import PUT_AWAY, RobosuiteEnv

pytestmark = pytest.mark.sims

NUM_STEPS = 20
ARM_TOLERANCE_RAD, OBJECT_TOLERANCE_M = 1e-6, 1e-4
"""After a second of random actions: splitting MuJoCo's step rounds differently, and contacts blow that up."""


def actions(seed: int) -> np.ndarray:
    """Random actions that change every five control steps, with closing and opening fingers."""
    rng = np.random.default_rng(seed)
    moves = np.concatenate([rng.uniform(-0.9, 0.9, (NUM_STEPS // 5, 6)), rng.choice([-1.0, 1.0], (NUM_STEPS // 5, 1))], axis=1)
    return np.repeat(moves, 5, axis=0)


def start_like(stock: Any, env: RobosuiteEnv) -> None:
    """Reset stock robosuite and put it into the lean environment's first state, controller included."""
    stock.reset()
    data, robot = stock.sim.data._data, stock.robots[0]
    model = stock.sim.model._model
    data.qpos[:], data.qvel[:] = env.data.qpos, env.data.qvel
    model.body_pos[:], model.body_quat[:] = env.model.body_pos, env.model.body_quat
    stock.sim.forward()
    robot.gripper.current_action = np.zeros(2)
    robot.controller.update_initial_joints(data.qpos[[model.joint(name).qposadr[0] for name in ARM_JOINTS]])


def test_trajectories_agree(pair: tuple[RobosuiteEnv, Any]) -> None:
    env, stock = pair
    env.restart(seed=3)
    start_like(stock, env)
    for action in actions(0):
        env.advance(action)
        stock.step(action)
    ours, theirs = env.data.qpos, stock.sim.data._data.qpos
    np.testing.assert_allclose(ours[:9], theirs[:9], atol=ARM_TOLERANCE_RAD)
    np.testing.assert_allclose(ours[9:], theirs[9:], atol=OBJECT_TOLERANCE_M)
    stock.sim.forward()
    assert env.shaped_reward() == pytest.approx(stock.reward(None), abs=1e-3)
    assert env.is_success() == bool(stock._check_success())


def test_rewards_and_checks_are_stocks_on_the_same_states(pair: tuple[RobosuiteEnv, Any]) -> None:
    env, stock = pair
    stock.reset()
    rng = np.random.default_rng(0)
    answers = []
    for number in range(60):
        env.restart(seed=number)
        scatter(env, rng)
        data, model = stock.sim.data._data, stock.sim.model._model
        data.qpos[:], data.qvel[:] = env.data.qpos, env.data.qvel
        model.body_pos[:], model.body_quat[:] = env.model.body_pos, env.model.body_quat
        mujoco.mj_forward(model, data)
        mujoco.mj_forward(env.model, env.data)
        assert env.shaped_reward() == pytest.approx(float(stock.reward(None)), abs=1e-12)
        assert env.is_success() == bool(stock._check_success())
        answers.append((env.is_success(), round(env.shaped_reward(), 6)))
    successes = sum(is_success for is_success, _ in answers)
    assert len({reward for _, reward in answers}) > 20
    assert env.task.stock_name in ("PickPlace", "NutAssembly") or 0 < successes < len(answers), "the check never changed"


def scatter(env: RobosuiteEnv, rng: np.random.Generator) -> None:
    """Put objects, or the door's joints, where the checks change their answers: in the hand, over their places, on others."""
    data, scene = env.data, env.physics.scene
    if scene.suite == "door":
        data.joint("Door_hinge").qpos[0], data.joint("Door_latch_joint").qpos[0] = rng.uniform(0.0, [0.6, 1.5])
    grip = data.site(env.gripper_site).xpos.copy()
    pegs = {"SquareNut": "peg1", "RoundNut": "peg2"}
    for index, (name, joint) in enumerate(scene.object_joints.items()):
        if env.task.object not in ("", name):
            continue
        pose = data.joint(joint).qpos
        where = rng.integers(4)
        if where == 0:
            pose[:3] = grip + rng.normal(0.0, 0.004, 3)
            data.qpos[7:9] = rng.choice([0.0195, 0.0215]) * np.array([1.0, -1.0])
        elif where == 1 and scene.suite == "pick_place":
            centre = np.array([0.1, 0.28]) + np.array([(-1, 1)[index % 2], (-1, 1)[index // 2]]) * np.array([0.0975, 0.1225])
            pose[:3] = [*centre + rng.uniform(-0.12, 0.12, 2), rng.uniform(0.78, 0.95)]
        elif where == 1 and name in pegs:
            pose[:3] = data.body(pegs[name]).xpos + rng.uniform(-0.04, 0.04, 3)
            pose[2] = rng.uniform(0.82, 0.9)
        elif where == 1 and name == "cubeA":
            pose[:3] = data.joint(scene.object_joints["cubeB"]).qpos[:3] + rng.uniform(
                (-0.03, -0.03, 0.044), (0.03, 0.03, 0.0441)
            )
        elif where == 2:
            pose[2] += rng.uniform(0.0, 0.2)
    env.set_state(env.get_state())


def test_placements_come_from_the_same_distribution_as_stock_draws(pair: tuple[RobosuiteEnv, Any]) -> None:
    env, stock = pair
    rng, num_draws = np.random.default_rng(0), 400
    np.random.seed(0)  # noqa: NPY002, robosuite draws from the global generator
    ours = [draw_placements(env.physics.scene, rng) for _ in range(num_draws)]
    stocks = [stock.placement_initializer.sample() for _ in range(num_draws)]
    for name in ours[0]:
        drawn = np.array([draw[name] for draw in ours])
        expected = np.array([np.concatenate(draw[name][:2]) for draw in stocks])
        spread = np.ptp(expected, axis=0)
        np.testing.assert_allclose(drawn.min(axis=0), expected.min(axis=0), atol=0.03 * spread.max() + 1e-9)
        np.testing.assert_allclose(drawn.max(axis=0), expected.max(axis=0), atol=0.03 * spread.max() + 1e-9)
        np.testing.assert_allclose(drawn.mean(axis=0), expected.mean(axis=0), atol=0.25 * spread.max() + 1e-9)


def test_objects_that_a_task_does_not_use_are_put_where_robosuite_puts_them(pair: tuple[RobosuiteEnv, Any]) -> None:
    env, stock = pair
    if not env.task.object:
        pytest.skip("a task that uses all of its objects")
    env.restart(seed=0)
    stock.reset()
    for name, joint in env.physics.scene.object_joints.items():
        is_away = np.array_equal(stock.sim.data._data.joint(joint).qpos, PUT_AWAY)
        assert is_away == np.array_equal(env.data.joint(joint).qpos, PUT_AWAY) == (name != env.task.object)
