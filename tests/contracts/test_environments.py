"""What every registered environment promises: spaces, determinism, fresh observations, restorable states, a doable task."""

from __future__ import annotations

import hashlib
import itertools
import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs.experts.learned import LearnedExpert
from envs.experts.pick_place import PickPlaceExpert
from envs.experts.so101 import So101Expert
from envs.experts.tasks import TaskExpert
from envs.registry import ENVIRONMENTS, register_environments
from opentau.protocols import StepEnv
from opentau.types import Interface
from tests.lifting import lifting_actor

ROOT = Path(__file__).resolve().parents[2]
TABLETOP, LIBERO_OBJECT, SO101 = "opentau/Tabletop-v0", "opentau/LiberoObject-v0", "opentau/TwinSo101-v0"
SPATIAL, GOAL, LONG, NINETY = (f"opentau/Libero{suite}-v0" for suite in ("Spatial", "Goal", "10", "90"))
BY_SCENE = {
    "spatial": (SPATIAL, 0),
    "goal": (GOAL, 8),
    "90_kitchen": (NINETY, 9),
    "90_living_room": (NINETY, 48),
    "90_study": (NINETY, 76),
    "10_stove": (LONG, 2),
    "10_microwave": (LONG, 9),
}
"""One task of each kind of scene of LIBERO's further suites."""
ROBOSUITE = {f"opentau/Robosuite{name}-v0": n for name, n in zip(("Lift", "Stack", "Door"), (1, 1, 1), strict=True)}
ROBOSUITE |= {"opentau/RobosuitePickPlace-v0": 5, "opentau/RobosuiteNutAssembly-v0": 3}
"""Name to number of tasks."""
CASES = [
    *(pytest.param((TABLETOP, task_id), id=f"tabletop-{task_id}") for task_id in range(4)),
    pytest.param((LIBERO_OBJECT, 0), id="libero_object-0", marks=pytest.mark.libero),
    *(
        pytest.param((LIBERO_OBJECT, task_id), id=f"libero_object-{task_id}", marks=pytest.mark.sims)
        for task_id in range(1, 10)
    ),
    *(pytest.param(case, id=f"libero_{scene}-{case[1]}", marks=pytest.mark.sims) for scene, case in BY_SCENE.items()),
    pytest.param((SO101, 0), id="twin_so101-0"),
    *(
        pytest.param((name, task_id), id=f"{name[8:-3].lower()}-{task_id}", marks=pytest.mark.sims)
        for name, num_tasks in ROBOSUITE.items()
        for task_id in range(num_tasks)
    ),
]
HARDEST: dict[str, dict[str, Any]] = {TABLETOP: {"placement_range": 1.0}, SO101: {"placement_range": 1.0}}
"""Options under which the expert has most to do."""


def made_by_hand(env: Any) -> LearnedExpert:
    with tempfile.TemporaryDirectory() as folder:
        return LearnedExpert(env, actor=lifting_actor(env, Path(folder) / "actor.npz"))


EXPERTS: dict[str, Any] = {
    TABLETOP: PickPlaceExpert,
    LIBERO_OBJECT: PickPlaceExpert,
    SPATIAL: TaskExpert,
    SO101: So101Expert,
    "opentau/RobosuiteLift-v0": made_by_hand,
    "opentau/RobosuiteStack-v0": PickPlaceExpert,
}
"""Of the environments whose every task here an expert knows; in the others a hand wanders."""
NUM_WANDERING_STEPS = 80
HAND_MOVES = ({name: 0.005 for name in ("x", "y", "z", "finger_1", "finger_2")}, {name: 0.01 for name in ("rx", "ry", "rz")})
JOINTS_MOVE = (
    {f"{name}.pos": 5.0 for name in ("shoulder_pan", "shoulder_lift", "elbow_flex", "gripper")},
    {"wrist_flex.pos": 5.0},
)
LIFT_MOVES = ({name: 0.005 for name in ("z", "finger_1", "finger_2")}, {"x": 0.003, "y": 0.003})
MOVES = {SO101: JOINTS_MOVE, "opentau/RobosuiteLift-v0": LIFT_MOVES}
"""Other than `HAND_MOVES`: what must move in an episode, all of the first and one of the second, in the units of the state."""
SEED = 1
UNBOUNDED, NOT_NORMALISED = "A Box observation space m", "For Box action spaces, we recommend using a symmetric"
"""How remarks of the checker begin: two on infinite bounds, which a state has, one on actions that are joint angles."""

register_environments()


@dataclass(frozen=True, kw_only=True)
class Play:
    """An expert's episode, or a wandering hand's."""

    observations: list[dict[str, Any]]
    """One more than actions."""
    actions: np.ndarray
    reward: float
    is_terminated: bool
    is_success: bool


def make(case: tuple[str, int], **options: Any) -> Any:
    name, task_id = case
    return gymnasium.make(name, task_id=task_id, image_size=32, **HARDEST.get(name, {}), **options).unwrapped


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    images = all(np.array_equal(one["images"][camera], other["images"][camera]) for camera in one["images"])
    return images and np.array_equal(one["state"], other["state"])


def arrays(observation: dict[str, Any]) -> list[np.ndarray]:
    return [*observation["images"].values(), observation["state"]]


def playing(kind: Any, env: Any) -> Callable[[], np.ndarray]:
    expert = kind(env)
    expert.start(seed=SEED, is_clean=True)
    return expert.act


def wandering(env: Any) -> Callable[[], np.ndarray]:
    """Return a hand that goes where chance sends it, ten ticks at a time, opening and closing."""
    rng = np.random.default_rng(SEED)
    (num_dims,) = env.action_space.shape
    ticks = (action for _ in itertools.count() for action in [rng.uniform(-0.6, 0.6, num_dims).astype(np.float32)] * 10)
    return lambda: next(ticks)


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[str, int]:
    return request.param


@pytest.fixture(scope="module")
def env(case: tuple[str, int]) -> Iterator[Any]:
    env = make(case)
    yield env
    env.close()


@pytest.fixture(scope="module")
def play(env: Any, case: tuple[str, int]) -> Play:
    first, _ = env.reset(seed=SEED)
    expert = EXPERTS.get(case[0])
    act, num_steps = (playing(expert, env), env.max_steps) if expert else (wandering(env), NUM_WANDERING_STEPS)
    observations, actions, is_over = [first], [], False
    while not is_over and len(actions) < num_steps:
        actions.append(act())
        observation, reward, is_terminated, is_truncated, info = env.step(actions[-1])
        observations.append(observation)
        is_over = is_terminated or is_truncated
    return Play(
        observations=observations,
        actions=np.array(actions),
        reward=reward,
        is_terminated=is_terminated,
        is_success=info["is_success"],
    )


def test_every_registered_environment_is_checked_here() -> None:
    assert {parameter.values[0][0] for parameter in CASES} == set(ENVIRONMENTS)


def test_gymnasiums_checker_is_content(env: Any) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(env)
    expected = (UNBOUNDED, NOT_NORMALISED) if env.metadata["interface"]["action_space"] == "absolute_joint" else (UNBOUNDED,)
    remarks = [str(warning.message) for warning in caught]
    assert [remark for remark in remarks if not any(words in remark for words in expected)] == []


def test_it_is_a_step_env_and_its_interface_fits_its_spaces(env: Any, case: tuple[str, int]) -> None:
    assert isinstance(env, StepEnv)
    plain = env.metadata["interface"]
    interface = Interface.from_dict(plain)
    assert interface.to_dict() == json.loads(json.dumps(plain))
    assert env.observation_space["state"].shape == (interface.state_dim,)
    assert env.action_space.shape == (interface.action_dim,)
    assert {name: space.shape for name, space in env.observation_space["images"].items()} == interface.cameras
    assert env.task_id.endswith(f"/{case[1]}")
    assert all((env.prompt, env.env_id, env.max_steps > 0, env.num_initial_states >= 50))


def test_hands_speak_of_state_and_actions_in_the_same_words(env: Any, case: tuple[str, int]) -> None:
    if case[0] == SO101:
        pytest.skip("an arm that is moved by its joints")
    tabletop = make((TABLETOP, 0))
    ours, theirs = tabletop.metadata["interface"], env.metadata["interface"]
    assert {key: ours[key] for key in ours if key != "cameras"} == {key: theirs[key] for key in theirs if key != "cameras"}
    tabletop.close()


def test_the_expert_succeeds_and_the_episode_ends_with_it(play: Play, env: Any, case: tuple[str, int]) -> None:
    if case[0] not in EXPERTS:
        pytest.skip("no expert knows every task of this environment yet")
    assert (play.reward, play.is_terminated, play.is_success) == (1.0, True, True)
    assert len(play.actions) < env.max_steps


def test_observations_and_expert_actions_are_in_their_spaces(play: Play, env: Any) -> None:
    assert all(env.observation_space.contains(observation) for observation in play.observations)
    assert all(env.action_space.contains(action) for action in play.actions)
    assert np.isfinite([observation["state"] for observation in play.observations]).all()


def test_nothing_that_should_move_stands_still(play: Play, env: Any, case: tuple[str, int]) -> None:
    names = env.metadata["interface"]["state_names"]
    moved = dict(zip(names, np.ptp([observation["state"] for observation in play.observations], axis=0), strict=True))
    all_of_these, one_of_these = MOVES.get(case[0], HAND_MOVES)
    assert all(moved[name] > least for name, least in all_of_these.items()), moved
    assert any(moved[name] > least for name, least in one_of_these.items()), moved
    for camera in play.observations[0]["images"]:
        frames = np.array([observation["images"][camera] for observation in play.observations])
        changing = np.ptp(frames, axis=0).max(axis=-1) > 8
        assert changing.mean() > 0.05, f"{camera} shows almost no motion"
        assert np.ptp(frames[0]) > 50, f"{camera} shows an empty picture"


def test_observations_share_no_memory(env: Any) -> None:
    first, _ = env.reset(seed=SEED)
    kept = [array.copy() for array in arrays(first)]
    second = env.step(env.action_space.sample())[0]
    for one in arrays(first):
        assert not any(np.shares_memory(one, other) for other in arrays(second))
    for array in arrays(second):
        array[:] = 0
    third = env.observe()
    assert all(np.array_equal(now, before) for now, before in zip(arrays(first), kept, strict=True))
    assert all(array.any() for array in arrays(third))


def test_a_seed_and_actions_decide_everything_whatever_came_before(play: Play, env: Any) -> None:
    env.reset(seed=SEED + 1)
    env.step(env.action_space.sample())
    observation, _ = env.reset(seed=SEED)
    assert same(observation, play.observations[0])
    for action, expected in zip(play.actions[:40], play.observations[1:], strict=False):
        env.advance(action)
        assert np.array_equal(env.observe()["state"], expected["state"])
    assert same(env.observe(), play.observations[min(40, len(play.actions))])


def test_seeds_and_official_states_all_differ(env: Any) -> None:
    starts = []
    for options in [*({"seed": seed} for seed in range(6)), *({"options": {"initial_state": i}} for i in (0, 1, 49))]:
        env.reset(**options)
        starts.append(env.get_state())
    assert min(np.abs(one - other).max() for i, one in enumerate(starts) for other in starts[:i]) > 1e-3


def test_an_official_state_does_not_depend_on_the_seed(env: Any) -> None:
    env.reset(seed=1, options={"initial_state": 7})
    state = env.get_state()
    env.reset(seed=2, options={"initial_state": 7})
    assert np.array_equal(env.get_state(), state)
    with pytest.raises(ValueError, match="50"):
        env.reset(options={"initial_state": 50})


def test_a_saved_state_restores_the_future_also_in_another_instance(env: Any, case: tuple[str, int], play: Play) -> None:
    env.reset(seed=SEED)
    for action in play.actions[:20]:
        env.advance(action)
    state, before = env.get_state(), env.observe()
    assert state.dtype == np.float64
    after = [env.step(action)[0] for action in play.actions[20:25]]
    other = make(case)
    other.reset(seed=SEED + 1)
    for instance in (env, other):
        instance.set_state(state)
        assert np.array_equal(instance.get_state(), state)
        assert same(instance.observe(), before)
        for action, expected in zip(play.actions[20:25], after, strict=True):
            assert same(instance.step(action)[0], expected)
    other.close()


def test_a_step_is_an_advance_and_an_observation(env: Any, play: Play) -> None:
    env.reset(seed=SEED)
    stepped = env.step(play.actions[0])
    env.reset(seed=SEED)
    advanced = env.advance(play.actions[0])
    assert same(stepped[0], env.observe())
    assert stepped[1:] == advanced


def test_the_step_limit_truncates_and_counts_from_reset(case: tuple[str, int]) -> None:
    env = make(case, max_steps=3)
    still = np.zeros(env.action_space.shape, np.float32)
    for _ in range(2):
        env.reset(seed=SEED)
        ends = [env.advance(still)[1:3] for _ in range(3)]
        assert ends == [(False, False), (False, False), (False, True)]
    env.close()


def test_an_action_that_is_none_is_refused(env: Any) -> None:
    env.reset(seed=SEED)
    (num_dims,) = env.action_space.shape
    for action in (np.full(num_dims, np.nan, np.float32), np.zeros(num_dims - 1, np.float32)):
        with pytest.raises(ValueError, match="finite numbers"):
            env.advance(action)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param((TABLETOP, 2), id="tabletop-2"),
        pytest.param((LIBERO_OBJECT, 0), id="libero_object-0", marks=pytest.mark.libero),
        pytest.param((SO101, 0), id="twin_so101-0"),
        pytest.param(("opentau/RobosuiteDoor-v0", 0), id="robosuitedoor-0", marks=pytest.mark.sims),
    ],
)
def test_a_fresh_process_plays_the_same_episode(case: tuple[str, int]) -> None:
    name, task_id = case
    program = (
        "import hashlib, sys, gymnasium, numpy as np\n"
        "from envs.registry import register_environments\n"
        "register_environments()\n"
        f"env = gymnasium.make({name!r}, task_id={task_id}, image_size=32, **{HARDEST.get(name, {})}).unwrapped\n"
        f"env.reset(seed={SEED})\n"
        "actions = np.random.default_rng(0).uniform(-1, 1, (15, *env.action_space.shape)).astype(np.float32)\n"
        "digest = hashlib.sha256(env.env_id.encode())\n"
        "for action in actions:\n"
        "    observation = env.step(action)[0]\n"
        "    [digest.update(array.tobytes()) for array in (*observation['images'].values(), observation['state'])]\n"
        "digest.update(env.get_state().tobytes())\n"
        "sys.stdout.write(digest.hexdigest())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    env = make(case)
    env.reset(seed=SEED)
    digest = hashlib.sha256(env.env_id.encode())
    for action in np.random.default_rng(0).uniform(-1, 1, (15, *env.action_space.shape)).astype(np.float32):
        for array in arrays(env.step(action)[0]):
            digest.update(array.tobytes())
    digest.update(env.get_state().tobytes())
    env.close()
    assert done.stdout == digest.hexdigest()
