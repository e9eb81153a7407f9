"""What every registered perturbation promises: another picture or task, a name of its own, nothing else changed."""

from __future__ import annotations

import itertools
from typing import Any

import gymnasium
import numpy as np
import pytest

from envs.libero.suites import PRO_SUITES, VARIANTS
from envs.looks import LOOKS
from envs.registry import register_environments

register_environments()
SIZE, SEED = 32, 3
ENVIRONMENTS = [
    pytest.param("opentau/Tabletop-v0", id="tabletop"),
    pytest.param("opentau/LiberoObject-v0", id="libero_object", marks=pytest.mark.sims),
    pytest.param("opentau/RobosuiteLift-v0", id="robosuite_lift", marks=pytest.mark.sims),
]
SAYING = ("instructions", "tasks")
"""Perturbations of LIBERO-PRO that change what is said."""


def make(name: str, **options: Any) -> Any:
    return gymnasium.make(name, task_id=0, image_size=SIZE, **options).unwrapped


def wander(env: Any) -> tuple[list[dict[str, Any]], list[np.ndarray]]:
    """Return what is seen in a few steps from one seed, and the simulator's states."""
    rng = np.random.default_rng(0)
    observations, states = [env.reset(seed=SEED)[0]], [env.get_state()]
    for _ in range(5):
        observations.append(env.step(rng.uniform(-0.5, 0.5, env.action_space.shape).astype(np.float32))[0])
        states.append(env.get_state())
    return observations, states


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("kind", LOOKS)
def test_a_look_changes_pictures_and_the_environments_name_and_nothing_else(name: str, kind: str) -> None:
    plain, changed, again = make(name), make(name, perturbation=kind), make(name, perturbation=[kind])
    seen, states = wander(plain)
    seen_changed, states_changed = wander(changed)
    np.testing.assert_array_equal(states, states_changed)
    for one, other in zip(seen, seen_changed, strict=True):
        np.testing.assert_array_equal(one["state"], other["state"])
        assert not np.array_equal(one["images"]["agentview"], other["images"]["agentview"])
    for one, other in zip(seen_changed, wander(again)[0], strict=True):
        for camera in one["images"]:
            np.testing.assert_array_equal(one["images"][camera], other["images"][camera])
    assert changed.env_id == again.env_id != plain.env_id
    assert (changed.prompt, changed.task_id, changed.metadata) == (plain.prompt, plain.task_id, plain.metadata)
    for env in (plain, changed, again):
        env.close()


def test_every_episode_has_a_look_of_its_own_that_official_states_share(name: str) -> None:
    env = make(name, perturbation=["light", "texture"])
    means = []
    for options in ({"initial_state": 0}, {"initial_state": 1}, {"initial_state": 0}):
        observation, _ = env.reset(seed=len(means), options=options)
        means.append(observation["images"]["agentview"].mean(axis=(0, 1)))
    np.testing.assert_array_equal(means[0], means[2])
    assert np.abs(means[0] - means[1]).max() > 1.0
    env.close()


def test_what_is_no_perturbation_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(ValueError, match=r"(?s)camera, light, texture, noise.*'lihgt'"):
        make(name, perturbation="lihgt")


@pytest.mark.sims
@pytest.mark.parametrize("kind", VARIANTS)
def test_a_variant_of_libero_pro_is_another_scene_goal_or_instruction_of_the_same_task(kind: str) -> None:
    plain, changed = make("opentau/LiberoObject-v0"), make("opentau/LiberoObject-v0", perturbation=kind)
    assert changed.task_id == plain.task_id
    assert changed.env_id != plain.env_id
    assert (changed.prompt != plain.prompt) == (kind in SAYING)
    assert (changed.goal != plain.goal) == (kind in ("objects", "tasks"))
    one, other = (env.reset(options={"initial_state": 0})[0]["images"]["agentview"] for env in (plain, changed))
    assert changed.num_initial_states == 50
    assert (kind in SAYING) or np.abs(one.astype(int) - other).mean() > 1.0
    plain.close()
    changed.close()


def test_libero_pro_perturbs_four_suites_in_four_ways() -> None:
    bases = ("libero_spatial", "libero_object", "libero_goal", "libero_10")
    assert set(PRO_SUITES) == {f"{base}_{ending}" for base, ending in itertools.product(bases, VARIANTS.values())}
    with pytest.raises(ValueError, match=r"LIBERO-PRO perturbs .*, not libero_90"):
        make("opentau/Libero90-v0", perturbation="positions")
    with pytest.raises(ValueError, match="at most one of objects, positions, instructions, tasks"):
        make("opentau/LiberoObject-v0", perturbation=["positions", "tasks"])
