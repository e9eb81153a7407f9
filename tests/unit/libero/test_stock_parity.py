"""The lean stepping against stock LIBERO: trajectories, predicates, placements and proprioception."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from envs.libero.environment import LiberoEnv
from envs.libero.predicates import compile_predicate
from envs.opengl import open_context
from envs.panda.environment import CAMERAS
from envs.panda.placement import draw_initial_state, draw_placements

pytestmark = pytest.mark.libero


def _actions(seed: int, length: int) -> np.ndarray:
    """Random actions that change every five control steps, with closing and opening fingers."""
    rng = np.random.default_rng(seed)
    moves = np.concatenate(
        [rng.uniform(-0.7, 0.7, (length // 5 + 1, 6)), rng.choice([-1.0, 1.0], (length // 5 + 1, 1))], axis=1
    )
    return np.repeat(moves, 5, axis=0)[:length]


@pytest.mark.parametrize("start", [{"seed": 3}, {"options": {"initial_state": 4}}])
def test_trajectories_agree(env, exact_env, start):
    observations = [each.reset(**start)[0] for each in (env, exact_env)]
    np.testing.assert_allclose(observations[0]["state"], observations[1]["state"], atol=1e-6)
    for action in _actions(0, 30):
        env.advance(action)
        exact_env.advance(action)
    np.testing.assert_allclose(env.data.qpos[:9], exact_env.data.qpos[:9], atol=1e-6)
    np.testing.assert_allclose(env.data.qpos[9:], exact_env.data.qpos[9:], atol=1e-4)


def test_pictures_look_alike(env, exact_env):
    lean, stock = (each.reset(options={"initial_state": 0})[0]["images"] for each in (env, exact_env))
    for camera in lean:
        difference = np.abs(lean[camera].astype(int) - stock[camera]).mean()
        assert difference < 12, f"{camera} differs by {difference} grey levels on average"


class OurContext:
    """An OpenGL context of ours in the shape that robosuite's renderer expects."""

    def __init__(self, **size: int) -> None:
        self._context = open_context()

    def make_current(self) -> None:
        self._context.make_current()

    def free(self) -> None:
        self._context.close()


@pytest.fixture
def stock_pictures(exact_env, monkeypatch):
    """Return a function that draws the state of stock's simulator with robosuite's own renderer, as LIBERO has it set up."""
    from robosuite.utils import binding_utils

    monkeypatch.setattr(binding_utils, "GLContext", OurContext)
    sim = exact_env.physics.stock_env.sim
    renderer = binding_utils.MjRenderContextOffscreen(sim, device_id=-1)
    renderer.vopt.geomgroup[0] = 0  # as robosuite hides collision shapes

    def draw(camera: str, size: int) -> np.ndarray:
        renderer.gl_ctx.make_current()
        return sim.render(camera_name=camera, height=size, width=size)[::-1]

    yield draw
    renderer.gl_ctx.make_current()
    sim._render_context_offscreen = None


def test_original_meshes_under_lean_stepping_give_stocks_pixels_frame_by_frame(env, exact_env, stock_pictures):
    original = LiberoEnv(image_size=64, meshes="original")
    for each in (original, env, exact_env):
        each.reset(options={"initial_state": 2})
    for action in _actions(1, 60)[::5]:
        for _ in range(5):
            original.advance(action)
            env.advance(action)
        np.testing.assert_array_equal(original.get_state(), env.get_state())
        exact_env.set_state(original.get_state())
        original.set_state(original.get_state())
        env.set_state(env.get_state())
        images = original.observe()["images"]
        for name, camera in CAMERAS.items():
            np.testing.assert_array_equal(images[name], stock_pictures(camera, 64))
    assert original.env_id != LiberoEnv(image_size=64).env_id
    original.close()


def test_exact_stepping_has_stocks_pixels_too(exact_env, stock_pictures):
    images = exact_env.reset(options={"initial_state": 1})[0]["images"]
    for name, camera in CAMERAS.items():
        np.testing.assert_array_equal(images[name], stock_pictures(camera, 32))


def test_meshes_that_do_not_exist_or_do_not_go_with_exact_stepping_are_refused():
    with pytest.raises(ValueError, match="meshes is one of decimated, original"):
        LiberoEnv(meshes="coarse")
    with pytest.raises(ValueError, match="exact stepping has meshes=original"):
        LiberoEnv(meshes="decimated", stepping="exact")


def test_predicates_answer_as_stock_does_on_the_same_states(env, exact_env):
    scene = env.physics.scene
    relations = [("in", name, "basket_1_contain_region") for name in scene.object_joints if name != "basket_1"]
    relations += [("on", *pair) for pair in itertools.permutations(scene.object_joints, 2)]
    relations += [("on", name, "basket_1_contain_region") for name in scene.object_joints if name != "basket_1"]
    checks = [compile_predicate(env.model, scene, relation) for relation in relations]
    stock = exact_env.physics.stock_env
    rng = np.random.default_rng(0)
    num_true = 0
    for _ in range(20):
        env.reset(seed=int(rng.integers(1000)))
        _scatter(env, rng)
        exact_env.set_state(env.get_state())
        answers = [check(env.data) for check in checks]
        assert answers == [bool(stock._eval_predicate(relation)) for relation in relations]
        num_true += sum(answers)
    assert num_true > 20


def _scatter(env, rng: np.random.Generator) -> None:
    """Drop objects onto each other and around the basket's rim, where predicates change their answer."""
    scene = env.physics.scene
    names = [name for name in scene.object_joints if name != "basket_1"]
    basket = env.data.body(scene.object_bodies["basket_1"]).xpos.copy()
    for name in rng.permutation(names)[:4]:
        env.data.joint(scene.object_joints[name]).qpos[:3] = basket + rng.uniform((-0.08, -0.08, -0.05), (0.08, 0.08, 0.1))
    upper, lower = rng.permutation(names)[:2]
    place = env.data.joint(scene.object_joints[lower]).qpos[:3] + np.append(rng.uniform(-0.02, 0.02, 2), 0.07)
    env.data.joint(scene.object_joints[upper]).qpos[:3] = place
    env.set_state(env.get_state())
    for _ in range(3):
        env.advance(np.array([0, 0, 0, 0, 0, 0, -1.0]))


def test_placements_come_from_the_same_distribution_as_stock_draws(env, exact_env):
    scene, sampler = env.physics.scene, exact_env.physics.stock_env.placement_initializer
    rng, num_draws = np.random.default_rng(0), 400
    np.random.seed(0)  # noqa: NPY002, LIBERO draws from the global generator
    ours = [draw_placements(scene, rng) for _ in range(num_draws)]
    stock = [sampler.sample() for _ in range(num_draws)]
    for name in ours[0]:
        drawn = np.array([draw[name] for draw in ours])
        expected = np.array([np.concatenate(draw[name][:2]) for draw in stock])
        np.testing.assert_allclose(drawn.min(axis=0), expected.min(axis=0), atol=5e-4)
        np.testing.assert_allclose(drawn.max(axis=0), expected.max(axis=0), atol=5e-4)
        np.testing.assert_allclose(drawn.mean(axis=0), expected.mean(axis=0), atol=2e-3)
        np.testing.assert_allclose(drawn.std(axis=0), expected.std(axis=0), atol=1e-3)


def test_drawn_arms_vary_as_in_the_official_states(env):
    scene, rng = env.physics.scene, np.random.default_rng(0)
    drawn = np.array([draw_initial_state(env.model, scene, rng).qpos for _ in range(200)])
    official = env._initial_states[:, 1 : 1 + env.model.nq]
    np.testing.assert_allclose(drawn[:, :7].std(axis=0), official[:, :7].std(axis=0), atol=0.006)
    np.testing.assert_allclose(drawn[:, :7].mean(axis=0), official[:, :7].mean(axis=0), atol=0.01)
    np.testing.assert_array_equal(drawn[:, 7:9], np.broadcast_to(official[0, 7:9], (200, 2)))


def test_stock_stepping_leaves_the_global_random_state_alone(exact_env):
    before = np.random.get_state()  # noqa: NPY002
    exact_env.reset(seed=0)
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_a_restored_state_continues_exactly_under_stock_stepping(exact_env):
    actions = _actions(1, 6)
    exact_env.reset(seed=5)
    for action in actions:
        exact_env.advance(action)
    state = exact_env.get_state()
    ends = []
    for _ in range(2):
        exact_env.set_state(state)
        for action in actions:
            exact_env.advance(action)
        ends.append(exact_env.get_state())
        exact_env.reset(seed=6)
    np.testing.assert_array_equal(ends[0], ends[1])


def test_proprioception_is_what_robosuite_reports(exact_env):
    from robosuite.utils.transform_utils import quat2axisangle

    observation, _ = exact_env.reset(seed=2)
    stock = exact_env.physics.stock_env._get_observations(force_update=True)
    expected = [stock["robot0_eef_pos"], quat2axisangle(stock["robot0_eef_quat"]), stock["robot0_gripper_qpos"]]
    np.testing.assert_allclose(observation["state"], np.concatenate(expected), atol=1e-6)
