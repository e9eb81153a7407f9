"""Somebody else's gymnasium environment behind our words: what it must offer, and what is said where it does not."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs.gymnasium.environment import GymnasiumEnv
from opentau.protocols import DrawingEnv
from opentau.types import Interface
from tests.other_python import ARGS, GLIDING


@pytest.fixture(autouse=True, scope="module")
def gliding() -> Iterator[Any]:
    sys.path.append(str(GLIDING.parent))
    yield importlib.import_module("gliding")
    sys.path.remove(str(GLIDING.parent))


def make(**changes: Any) -> GymnasiumEnv:
    return GymnasiumEnv(**(ARGS | changes))


def of(id: str, **args: Any) -> list[dict[str, Any]]:
    return [{"prompt": "do it", "args": {"id": id, **args}}]


def played(env: GymnasiumEnv, *, seed: int) -> list[dict[str, Any]]:
    observations = [env.reset(seed=seed)[0]]
    rng = np.random.default_rng(seed)
    for _ in range(10):
        observations.append(env.step(rng.uniform(-0.5, 0.5, 2).astype(np.float32))[0])
    return observations


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    images = all(np.array_equal(one["images"][camera], other["images"][camera]) for camera in one["images"])
    return images and np.array_equal(one["state"], other["state"])


def test_it_is_an_environment_of_ours_with_the_words_it_was_given():
    env = make(state_names=["x", "y"], state_units=["m", "m"], action_names=["dx", "dy"])
    assert isinstance(env, DrawingEnv)
    interface = Interface.from_dict(env.metadata["interface"])
    assert (interface.state_names, interface.action_names, interface.control_hz) == (("x", "y"), ("dx", "dy"), 10.0)
    assert interface.cameras == {"agentview": (32, 32, 3)}
    assert (env.task_id, env.prompt, env.max_steps) == ("gliding/0", "glide to the disc", 40)
    check_env(env)


def test_a_seed_and_actions_decide_everything_whatever_came_before():
    env, fresh = make(), make()
    played(env, seed=5)
    assert all(same(one, other) for one, other in zip(played(env, seed=3), played(fresh, seed=3), strict=True))
    assert not same(played(env, seed=3)[0], played(env, seed=4)[0])


def test_official_states_differ_and_depend_on_no_seed():
    env = make()
    starts = [env.reset(seed=seed, options={"initial_state": index})[0] for seed, index in ((1, 0), (2, 0), (1, 1))]
    assert same(starts[0], starts[1])
    assert not same(starts[0], starts[2])
    with pytest.raises(ValueError, match="0 to 49"):
        env.reset(options={"initial_state": 50})


def test_an_episode_ends_with_the_success_that_info_tells_and_with_the_limit(gliding):
    env = make()
    env.reset(seed=1)
    expert = gliding.Homing(env)
    expert.start(seed=0, is_clean=True)
    ends = []
    while not ends or not (ends[-1][1] or ends[-1][2]):
        ends.append(env.advance(expert.act()))
    assert ends[-1] == (1.0, True, False, {"is_success": True})
    assert len(ends) < 10
    env = make(max_steps=3)
    env.reset(seed=1)
    assert [env.advance(np.zeros(2))[2] for _ in range(3)] == [False, False, True]


def test_a_termination_without_success_is_a_failure():
    env = make()
    env.reset(seed=1)
    ends = [env.advance(np.array([-1.0, 1.0])) for _ in range(11)]
    assert ends[-1] == (0.0, True, False, {"is_success": False})


def test_observations_are_fresh_and_their_size_is_the_one_asked_for():
    env = make(image_size=16)
    first, _ = env.reset(seed=1)
    kept = first["images"]["agentview"].copy()
    env.step(np.ones(2, np.float32))
    assert first["images"]["agentview"].shape == (16, 16, 3)
    assert np.array_equal(first["images"]["agentview"], kept)
    assert make(image_size=None).metadata["interface"]["cameras"] == {"agentview": [32, 32, 3]}


def test_what_changes_episodes_changes_the_identity():
    ids = [make(**changes).env_id for changes in ({}, {}, {"max_steps": 39}, {"image_size": 16}, {"state_indices": [0, 1, 2]})]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 4


def test_cameras_of_a_mujoco_model_are_drawn_by_us_and_its_state_is_what_is_read():
    swing = {"make": f"{__name__}:Swing", "tasks": [{"prompt": "swing"}], "state_indices": None, "success_key": None}
    env = make(**swing, cameras={"side": "front"}, shows_sites=True, control_hz=50.0)
    before, _ = env.reset(seed=1)
    state = env.get_state()
    after = env.step(np.ones(1, np.float32))[0]
    assert state.dtype == np.float64
    assert not np.array_equal(env.get_state(), state)
    assert before["images"]["side"].shape == (32, 32, 3)
    assert not np.array_equal(before["images"]["side"], after["images"]["side"])
    with pytest.raises(ValueError, match="use one of: front"):
        make(**swing, cameras={"side": "back"}, control_hz=50.0)
    env.close()


def test_pictures_in_nested_observations_are_cameras_and_no_state():
    env = make(make=f"{__name__}:Nested", tasks=[{"prompt": "look"}], cameras={"top": "pixels/top"},
               state_indices=None, success_key=None, control_hz=5.0)  # fmt: skip
    observation, _ = env.reset(seed=1)
    assert observation["images"]["top"].shape == (32, 32, 3)
    assert observation["state"].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tasks": of("nobody_has_this:Lift-v0")}, "No module named 'nobody_has_this'"),
        ({"tasks": of("gliding:Glyde-v0")}, "cannot make"),
        ({"tasks": [{"args": {}}]}, "has a prompt"),
        ({"task_id": 1}, "1 entries"),
        ({"state_indices": [0, 9]}, "observes 4 numbers"),
        ({"state_names": ["x"]}, "state_names has 1 entries"),
        ({"action_units": ["m"]}, "action_units has 1 entries"),
        ({"cameras": {"agentview": "front"}}, "no MuJoCo model"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"success_key": "done"}, r"info has \['is_there'\]"),
        ({"tasks": of("CartPole-v1"), "state_indices": None}, "finite bounds"),
        ({"tasks": of("gliding:Glide-v0", forgets_seeds=True), "state_indices": None}, "does not repeat itself"),
        ({"tasks": of("gliding:Glide-v0", render_mode=None)}, "rgb_array"),
    ],
)
def test_what_does_not_fit_is_said_when_it_is_made(changes, words):
    with pytest.raises(ValueError, match=words):
        make(**changes)


def test_actions_that_are_none_and_recorded_states_are_refused():
    env = make()
    env.reset(seed=1)
    with pytest.raises(ValueError, match="finite numbers"):
        env.advance(np.array([np.nan, 0.0]))
    with pytest.raises(ValueError, match="recorded state"):
        env.set_state(env.get_state())


class Nested(gymnasium.Env[Any, Any]):
    """Observes pictures among numbers."""

    render_mode = None

    def __init__(self) -> None:
        spaces = gymnasium.spaces
        picture, numbers = spaces.Box(0, 255, (48, 48, 3), np.uint8), spaces.Box(-9.0, 9.0, (2,), np.float32)
        self.observation_space = spaces.Dict(
            {"a": numbers, "pixels": spaces.Dict({"top": picture, "z": spaces.Box(0.0, 9.0, (1,))})}
        )
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._seen(), 0.0, False, False, {}

    def _seen(self) -> dict[str, Any]:
        pixels = {"top": np.full((48, 48, 3), 9, np.uint8), "z": np.array([3.0], np.float32)}
        return {"a": np.array([1.0, 2.0], np.float32), "pixels": pixels}


class Swing(gymnasium.Env[Any, Any]):
    """A pendulum that shows its model and data as gymnasium's MuJoCo environments do."""

    render_mode = None

    def __init__(self) -> None:
        self.model = mujoco.MjModel.from_xml_string(
            "<mujoco><worldbody><light pos='0 -1 1'/><camera name='front' pos='0 -2 0' xyaxes='1 0 0 0 0 1'/>"
            "<body><joint name='hinge' axis='0 1 0'/><geom type='capsule' size='.05' fromto='0 0 0 .6 0 0'/></body>"
            "</worldbody><actuator><motor joint='hinge' gear='9'/></actuator></mujoco>"
        )
        self.data = mujoco.MjData(self.model)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[0] = self.np_random.uniform(-0.5, 0.5)
        mujoco.mj_forward(self.model, self.data)
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.data.ctrl[:] = action
        mujoco.mj_step(self.model, self.data, 10)
        return self._seen(), 0.0, False, False, {}

    def _seen(self) -> np.ndarray:
        return np.concatenate([self.data.qpos, self.data.qvel])
