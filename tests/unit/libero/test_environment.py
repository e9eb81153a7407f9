"""LiberoEnv: spaces, interface, determinism, states, limits and errors."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs.libero.environment import LiberoEnv
from opentau.protocols import StepEnv
from opentau.types import Interface

pytestmark = pytest.mark.libero

ROOT = Path(__file__).resolve().parents[3]
REACH = np.array([0.4, -0.3, -0.6, 0.1, 0.0, -0.2, 1.0], np.float32)


def _digest_program(seed: int) -> str:
    return (
        "import hashlib, json, sys, numpy as np\n"
        "from envs.libero.environment import LiberoEnv\n"
        "env = LiberoEnv(image_size=32)\n"
        f"first, _ = env.reset(seed={seed})\n"
        f"for _ in range(8): env.advance(np.array({REACH.tolist()}, np.float32))\n"
        "frame = env.observe()['images']['wrist']\n"
        "print(json.dumps({'state': hashlib.sha256(env.get_state().tobytes()).hexdigest(),"
        " 'frame': hashlib.sha256(frame.tobytes()).hexdigest(), 'env_id': env.env_id,"
        " 'heavy': sorted({'robosuite', 'libero', 'torch', 'scipy'} & set(sys.modules))}))\n"
    )


def _run(program: str) -> dict:
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def test_gymnasium_accepts_the_environment(env):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # proprioception has no bounds, which the checker finds odd
        check_env(env, skip_render_check=True)


def test_it_offers_what_stations_need(env):
    assert isinstance(env, StepEnv)
    interface = Interface.from_dict(env.metadata["interface"])
    assert dict(interface.cameras) == {"agentview": (32, 32, 3), "wrist": (32, 32, 3)}
    assert (interface.state_dim, interface.action_dim, interface.action_space, interface.control_hz) == (8, 7, "delta_ee", 20.0)
    assert env.prompt == "pick up the alphabet soup and place it in the basket"
    assert env.goal == (("in", "alphabet_soup_1", "basket_1_contain_region"),)
    assert (env.task_id, env.max_steps, env.num_initial_states) == ("libero_object/0", 280, 50)
    assert set(env.object_bodies) > {"alphabet_soup_1", "basket_1"}
    assert env.data.site(env.gripper_site).xpos[2] > 0.1
    assert all(env.model.joint(name).qposadr.size == 1 for name in env.finger_joints)


def test_an_episode_is_a_function_of_its_seed_whatever_came_before(env):
    def play(seed: int) -> list[np.ndarray]:
        observation, _ = env.reset(seed=seed)
        frames = [observation["images"]["agentview"]]
        for _ in range(8):
            env.advance(REACH)
        return [*frames, env.observe()["images"]["wrist"], env.get_state()]

    first = play(3)
    play(4)
    env.reset(options={"initial_state": 2})
    for before, after in zip(first, play(3), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_fresh_process_plays_the_same_episode_without_stock_libero(env):
    here = _run(_digest_program(11))
    assert here["heavy"] == []
    assert here["env_id"] == env.env_id
    env.reset(seed=1)
    assert _run(_digest_program(11)) == here
    assert _run(_digest_program(12))["state"] != here["state"]


def test_a_restored_state_continues_exactly(env):
    env.reset(seed=5)
    for _ in range(4):
        env.advance(REACH)
    state = env.get_state()

    def go_on() -> np.ndarray:
        for _ in range(6):
            env.advance(REACH)
        return env.get_state()

    first = go_on()
    env.reset(seed=6)
    env.set_state(state)
    np.testing.assert_array_equal(env.get_state(), state)
    np.testing.assert_array_equal(go_on(), first)


def test_official_states_are_kept_and_seeds_never_give_one(env):
    official = [env.reset(options={"initial_state": index})[0]["state"] for index in (0, 1, 49)]
    again, _ = env.reset(options={"initial_state": 1})
    np.testing.assert_array_equal(again["state"], official[1])
    assert not np.array_equal(official[0], official[1])
    drawn = [env.reset(seed=seed)[0]["state"] for seed in range(5)]
    assert not any(np.array_equal(one, other) for one in official for other in drawn)


def test_settling_ends_at_rest_and_success_is_false(env):
    for options in ({"seed": 0}, {"options": {"initial_state": 0}}):
        _, info = env.reset(**options)
        assert info == {"is_success": False}
        assert np.abs(env.data.qvel).max() < 0.2


def test_an_object_put_into_the_basket_ends_the_episode_with_a_reward(env):
    env.reset(seed=0)
    basket = env.data.body(env.object_bodies["basket_1"]).xpos.copy()
    env.data.joint("alphabet_soup_1_joint0").qpos[:3] = (*basket[:2], basket[2] + 0.02)
    env.set_state(env.get_state())
    _, reward, terminated, truncated, info = env.step(np.zeros(7, np.float32))
    assert (reward, terminated, truncated, info) == (1.0, True, False, {"is_success": True})


def test_an_episode_is_cut_at_its_step_limit():
    env = LiberoEnv(image_size=32, max_steps=3)
    env.reset(seed=0)
    assert [env.advance(REACH)[2] for _ in range(3)] == [False, False, True]
    env.reset(seed=0)
    assert env.advance(REACH)[2] is False
    env.close()


def test_physics_alone_needs_no_renderer(env):
    env.reset(seed=0)
    env.close()
    env.advance(REACH)
    assert env._renderer is None
    assert env.observe()["images"]["agentview"].std() > 10


def test_actions_move_the_hand_the_way_they_say(env):
    for axis in range(3):
        env.reset(seed=0)
        start = env.data.site(env.gripper_site).xpos.copy()
        for _ in range(10):
            env.advance(np.eye(7, dtype=np.float32)[axis] * 0.5 - np.eye(7, dtype=np.float32)[6])
        moved = env.data.site(env.gripper_site).xpos - start
        assert moved[axis] > 0.04
        assert np.abs(np.delete(moved, axis)).max() < 0.03


def test_fingers_open_at_minus_one_and_close_at_plus_one(env):
    observation, _ = env.reset(seed=0)
    opening = np.ptp(observation["state"][6:])
    for _ in range(12):
        env.advance(np.array([0, 0, 0, 0, 0, 0, 1.0]))
    assert opening > 0.07
    assert np.ptp(env.observe()["state"][6:]) < 0.01


@pytest.mark.parametrize("action", [np.zeros(6), np.full(7, np.nan), np.array([0, 0, 0, 0, 0, 0, np.inf])])
def test_a_bad_action_is_refused(env, action):
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"7 finite numbers in \[-1, 1\]"):
        env.advance(action)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"suite": "libero_objekt"}, "did you mean libero_object"),
        ({"task_id": 10}, "tasks 0 to 9, not 10"),
        ({"stepping": "slow"}, "stepping is one of fast, exact, not 'slow'"),
        ({"cameras": ("agentview", "overhead")}, "cameras are some of agentview, wrist, front, side, bird, not 'overhead'"),
        ({"timestep_ms": 3}, "timestep_ms divides 50 ms and is at most 5, not 3"),
        ({"stepping": "exact", "timestep_ms": 5}, "exact stepping has timestep_ms=2, not 5"),
        ({"image_size": 0}, "image_size is 8 to 2048 pixels, not 0"),
        ({"max_steps": 0}, "max_steps is at least 1, not 0"),
    ],
)
def test_wrong_options_are_named_with_what_exists(options, message):
    with pytest.raises(ValueError, match=message):
        LiberoEnv(**options)


def test_wrong_reset_options_and_states_are_refused(env):
    with pytest.raises(ValueError, match="initial states 0 to 49, not 50"):
        env.reset(options={"initial_state": 50})
    with pytest.raises(ValueError, match="reset knows the option 'initial_state', not 'state'"):
        env.reset(options={"state": 1})
    with pytest.raises(ValueError, match="a simulator state of this task has"):
        env.set_state(np.zeros(5))


def test_the_identity_tells_options_apart(env):
    other = LiberoEnv(image_size=32, timestep_ms=5)
    assert other.env_id.split("-")[:2] == env.env_id.split("-")[:2] == ["libero_object/0", "fast"]
    assert other.env_id != env.env_id
    other.reset(seed=0)
    other.close()
