"""Scenes of all suites: predicates of joints, drawers that carry their objects, burners that glow, states that settle."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import mujoco
import numpy as np
import pytest

from benchmarks.libero_parity import chosen_tasks, compare_task, known_predicates, shortfalls
from envs.libero.environment import LiberoEnv
from envs.libero.predicates import compile_predicate
from envs.libero.suites import SUITES
from envs.panda.placement import MAX_DRAWS, draw_initial_state, draw_placements
from envs.panda.scene import JointCondition, Placement, Scene

BOWL, RAMEKIN, CABINET, STOVE = "akita_black_bowl_1", "glazed_rim_porcelain_ramekin_1", "wooden_cabinet_1", "flat_stove_1"
BOWL_IN_DRAWER, BOWL_ON_RAMEKIN = 4, 5
TURN_ON_THE_STOVE = 7


@pytest.fixture(scope="module")
def goal_env() -> Iterator[LiberoEnv]:
    env = LiberoEnv(suite="libero_goal", task_id=TURN_ON_THE_STOVE, image_size=128)
    yield env
    env.close()


def _placement(name: str, **options: object) -> Placement:
    plain = {
        "object": name, "on": "", "x_ranges": ((0.0, 0.0),), "y_ranges": ((0.0, 0.0),), "origin": (0.0, 0.0, 0.0),
        "turned_origin": (0.0, 0.0, 0.0), "z_offset": 0.0, "rotations": (), "quaternion_order": "wxyz", "keeps_apart": True,
        "is_inside": False, "radius": 0.05, "bottom": 0.0, "top": 0.1,
    }  # fmt: skip
    return Placement(**(plain | options))


def _scene(**options: object) -> Scene:
    plain = {
        "suite": "libero_goal", "task_id": 0, "prompt": "open it", "goal": (("open", "drawer"),), "object_bodies": {},
        "object_joints": {}, "contact_geoms": {}, "site_sizes": {}, "site_parents": {}, "fixtures": (), "placements": (),
        "joint_draws": (), "arm_joints_at_rest": (), "gripper_joints_at_rest": (), "content_hash": "",
    }  # fmt: skip
    return Scene(**(plain | options))


def test_the_suites_have_their_tasks_and_published_limits():
    sizes = {name: (suite.num_tasks, suite.max_steps) for name, suite in SUITES.items()}
    assert sizes == {
        "libero_spatial": (10, 220),
        "libero_object": (10, 280),
        "libero_goal": (10, 300),
        "libero_10": (10, 520),
        "libero_90": (90, 400),
    }


def test_scenes_without_fixtures_are_written_as_before_and_others_whole():
    old = json.loads(_scene(placements=(_placement("milk_1"),)).to_json())
    assert list(old) == [field.name for field in dataclasses.fields(Scene)][:-2]
    assert list(old["placements"][0]) == [field.name for field in dataclasses.fields(Placement)][:-2]
    condition = JointCondition(joints=("level",), comparison="<", bound=-0.14, needs_all=False)
    new = _scene(
        joint_conditions={"drawer": {"open": condition}},
        lamps={"burner": "stove"},
        placements=(_placement("bowl_1", slide_joint="level", slide=(0.0, 1.0, 0.0)),),
    )
    assert Scene.from_json(new.to_json()) == new


def test_a_place_in_a_drawer_moves_with_the_drawer_and_turns_with_the_cabinet():
    half_turn = (("z", np.pi, np.pi),)
    cabinet = _placement("cabinet_1", origin=(0.1, 0.2, 0.9), rotations=half_turn, keeps_apart=False)
    bowl = _placement(
        "bowl_1", on="cabinet_1", turned_origin=(0.0, 0.05, 0.1), slide_joint="level", slide=(0.0, 1.0, 0.0), keeps_apart=False
    )
    scene, rng = _scene(placements=(cabinet, bowl)), np.random.default_rng(0)
    closed = draw_placements(scene, rng)["bowl_1"][:3]
    opened = draw_placements(scene, rng, openings={"level": -0.15})["bowl_1"][:3]
    np.testing.assert_allclose(closed, (0.1, 0.15, 1.0), atol=1e-12)
    np.testing.assert_allclose(opened - closed, (0.0, 0.15, 0.0), atol=1e-12)


def test_objects_without_room_are_an_error_after_a_number_of_draws():
    scene = _scene(placements=(_placement("one"), _placement("other")))
    with pytest.raises(RuntimeError, match=f"libero_goal task 0: objects find no room .* {MAX_DRAWS} draws"):
        draw_placements(scene, np.random.default_rng(0))


def test_tasks_of_the_parity_benchmark_are_named_by_suite_and_number():
    assert chosen_tasks(["libero_90/3", "libero_goal"]) == [("libero_90", 3), *(("libero_goal", n) for n in range(10))]
    with pytest.raises(ValueError, match="tasks 0 to 9, not 12"):
        chosen_tasks(["libero_10/12"])


@pytest.mark.libero
def test_bowls_of_the_official_states_rest_on_the_ramekins_axis():
    env = LiberoEnv(suite="libero_spatial", task_id=BOWL_ON_RAMEKIN, image_size=8)
    bowl, ramekin = (env.data.body(env.object_bodies[name]) for name in (BOWL, RAMEKIN))
    offsets = []
    for index in range(0, env.num_initial_states, 5):
        env.reset(options={"initial_state": index})
        offsets.append(np.linalg.norm(bowl.xpos[:2] - ramekin.xpos[:2]))
        assert bowl.xmat[8] > 0.95, "the bowl has tipped"
        assert bowl.xpos[2] > ramekin.xpos[2]
    assert max(offsets) < 0.02
    env.close()


@pytest.mark.libero
def test_drawers_and_knobs_are_described_for_experts(goal_env: LiberoEnv):
    conditions = goal_env.physics.scene.joint_conditions
    top = conditions[f"{CABINET}_top_region"]
    assert top["open"] == JointCondition(joints=(f"{CABINET}_top_level",), comparison="<", bound=-0.14, needs_all=False)
    assert top["close"] == JointCondition(joints=(f"{CABINET}_top_level",), comparison=">", bound=0.0, needs_all=True)
    assert len(conditions[CABINET]["open"].joints) == 3
    assert conditions[STOVE]["turnon"] == JointCondition(
        joints=(f"{STOVE}_button",), comparison=">=", bound=0.5, needs_all=False
    )
    assert conditions[STOVE]["turnoff"].comparison == "<"
    assert goal_env.goal == (("turnon", STOVE),)
    assert goal_env.prompt == "turn on the stove"


@pytest.mark.libero
def test_a_burner_glows_while_it_is_on_and_the_task_is_over_then(goal_env: LiberoEnv):
    observation, info = goal_env.reset(options={"initial_state": 0})
    assert not info["is_success"]
    goal_env.data.joint(f"{STOVE}_button").qpos[0] = 0.8
    goal_env.set_state(goal_env.get_state())
    lit = goal_env.observe()
    _, reward, terminated, _, _ = goal_env.step(np.zeros(7, np.float32))
    assert (reward, terminated) == (1.0, True)
    change = lit["images"]["agentview"].astype(int) - observation["images"]["agentview"]
    assert ((change[..., 0] > 60) & (change[..., 2] < 30)).sum() > 20, "no red disc appeared"
    again = goal_env.reset(options={"initial_state": 0})[0]
    assert np.array_equal(again["images"]["agentview"], observation["images"]["agentview"])


@pytest.mark.libero
def test_a_predicate_that_a_scene_cannot_mean_is_refused(goal_env: LiberoEnv):
    scene = goal_env.physics.scene
    for predicate, message in (
        (("open", BOWL), f"{BOWL} has no joints that open could mean"),
        (("turnon", f"{CABINET}_top_region"), "it knows open, close"),
        (("up", BOWL), "the predicate 'up"),
    ):
        with pytest.raises(ValueError, match=message):
            compile_predicate(goal_env.model, scene, predicate)
    assert {words[0] for words in known_predicates(scene)} == {"on", "in", "open", "close", "turnon", "turnoff"}


@pytest.mark.sims
@pytest.mark.parametrize(("suite", "task_id"), [("libero_goal", 3), ("libero_10", 2), ("libero_90", 33)])
def test_lean_and_stock_libero_agree_on_predicates_and_outcomes(suite: str, task_id: int):
    row = compare_task(suite, task_id, num_scripted=2, num_expert=0)
    assert shortfalls([row]) == []
    assert row.num_predicates > 500
    assert row.successes >= 1


@pytest.mark.sims
def test_a_bowl_is_drawn_into_an_open_drawer_as_stock_does():
    env = LiberoEnv(suite="libero_spatial", task_id=BOWL_IN_DRAWER, image_size=8)
    exact = LiberoEnv(suite="libero_spatial", task_id=BOWL_IN_DRAWER, image_size=8, stepping="exact")
    stock, scene = exact.physics.stock_env, env.physics.scene
    stock.hard_reset = True  # as LIBERO resets: fixtures are where their files put them until they are placed
    level, rng = f"{CABINET}_top_level", np.random.default_rng(0)
    np.random.seed(0)  # noqa: NPY002, LIBERO draws from the global generator
    ours, theirs = [], []
    for _ in range(3):
        stock.reset()
        model, data, cabinet = stock.sim.model, stock.sim.data, stock.obj_body_id[CABINET]
        pose = np.concatenate([model.body_pos[cabinet], model.body_quat[cabinet]])
        theirs.append(_in_drawer(data.get_joint_qpos(f"{BOWL}_joint0")[:3], pose, data.get_joint_qpos(level)))
        state = draw_initial_state(env.model, scene, rng)
        opening, start = state.qpos[env.model.joint(level).qposadr[0]], env.model.joint(f"{BOWL}_joint0").qposadr[0]
        pose = state.fixture_poses[scene.fixtures.index(CABINET)]
        ours.append(_in_drawer(state.qpos[start : start + 3], pose, opening))
        assert -0.16 <= opening <= -0.14
    np.testing.assert_allclose(theirs, np.broadcast_to(theirs[0], (3, 3)), atol=1e-6)
    np.testing.assert_allclose(ours, np.broadcast_to(theirs[0], (3, 3)), atol=1e-6)
    for each in (env, exact):
        each.close()


def _in_drawer(position: np.ndarray, cabinet: np.ndarray, opening: float) -> np.ndarray:
    """Return a place in the world as the drawer of a cabinet of this pose has it, m, [3]."""
    inverse, local = np.empty(4), np.empty(3)
    mujoco.mju_negQuat(inverse, np.array(cabinet[3:]))
    mujoco.mju_rotVecQuat(local, position - cabinet[:3], inverse)
    return local - np.array([0.0, opening, 0.0])
