"""What a LIBERO scene says of itself: boxes against the pictures, names, the gripper, the basket."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from envs.experts.pick_place import PickPlaceExpert
from envs.libero.environment import LiberoEnv
from envs.libero.words import spoken_name
from envs.panda.environment import CAMERAS, COLLISION_GEOM_GROUP
from envs.rendering import Renderer

SIDE = 128
SOUP, BASKET = "alphabet_soup_1", "basket_1"


@pytest.mark.parametrize(
    ("key", "name"), [(SOUP, "alphabet soup"), ("akita_black_bowl_2", "black bowl"), ("wooden_cabinet_1", "wooden cabinet")]
)
def test_names_are_as_instructions_say_them(key: str, name: str) -> None:
    assert spoken_name(key) == name


@pytest.fixture
def renderer(env: LiberoEnv):
    with Renderer(
        env.model, cameras=CAMERAS, height=SIDE, width=SIDE, shadow_size=0, hidden_geom_groups=(COLLISION_GEOM_GROUP,)
    ) as renderer:
        yield renderer


def changed_boxes(env: LiberoEnv, renderer: Renderer, key: str) -> dict[str, list[float] | None]:
    """Return per camera the box around the pixels that change when an object is not drawn, None where none does."""
    model, before = env.model, renderer.render(env.data)
    is_of_object = model.geom_bodyid == model.body(env.object_bodies[key]).id
    groups = model.geom_group.copy()
    model.geom_group[is_of_object] = COLLISION_GEOM_GROUP
    try:
        after = renderer.render(env.data)
    finally:
        model.geom_group[:] = groups
    boxes: dict[str, list[float] | None] = {}
    for camera in before:
        is_changed = (before[camera] != after[camera]).any(axis=-1)
        rows, columns = np.flatnonzero(is_changed.any(axis=1)), np.flatnonzero(is_changed.any(axis=0))
        edges = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1] if len(rows) else None
        boxes[camera] = None if edges is None else [edge / SIDE for edge in edges]
    return boxes


@pytest.mark.libero
def test_boxes_surround_the_pixels_that_an_object_paints_in_both_cameras_and_move_with_it(
    env: LiberoEnv, renderer: Renderer
) -> None:
    env.reset(seed=0)
    first = env.ground_truth()
    compared = {camera: 0 for camera in CAMERAS}
    for key in first["objects"]:
        for camera, expected in changed_boxes(env, renderer, key).items():
            seen = first["cameras"][camera].get(key)
            if expected is not None and seen is not None and seen["share"] > 0.001:
                assert np.abs(np.subtract(seen["box"], expected)).max() <= 1.5 / SIDE, (camera, key)
                compared[camera] += 1
    assert compared["agentview"] == 7
    assert compared["wrist"] >= 4
    env.data.joint("alphabet_soup_1_joint0").qpos[1] += 0.1
    env.set_state(env.get_state())
    moved = env.ground_truth()
    expected = changed_boxes(env, renderer, SOUP)["agentview"]
    box = moved["cameras"]["agentview"][SOUP]["box"]
    assert np.abs(np.subtract(box, expected)).max() <= 1.5 / SIDE
    assert abs(box[1] - first["cameras"]["agentview"][SOUP]["box"][1]) > 0.05
    assert moved["cameras"]["agentview"][BASKET]["box"] == first["cameras"]["agentview"][BASKET]["box"]


@pytest.mark.libero
def test_shares_are_those_of_the_segmentation(env: LiberoEnv, renderer: Renderer) -> None:
    env.reset(seed=0)
    truth = env.ground_truth()
    for camera, geoms in renderer.segment(env.data).items():
        for key, seen in truth["cameras"][camera].items():
            geom = env.model.geom(f"{key}_g0").id
            assert seen["share"] == pytest.approx((geoms == geom).mean(), abs=0.002)


@pytest.mark.libero
def test_the_soup_is_held_once_lifted_and_in_the_basket_once_put_there(env: LiberoEnv) -> None:
    env.reset(seed=0)
    assert env.ground_truth()["places"] == [["in", BASKET]]
    expert = PickPlaceExpert(env)
    expert.start(seed=0, is_clean=True)
    assert (expert.subject, expert.relation, expert.destination) == (SOUP, "in", BASKET)
    while expert.phase != "carry":
        assert not env.advance(expert.act())[2]
    truth = env.ground_truth()
    assert (truth["held"], truth["relations"]) == (SOUP, [])
    assert truth["objects"][SOUP]["position"] == pytest.approx(env.data.body(env.object_bodies[SOUP]).xpos)
    basket = env.data.body(env.object_bodies[BASKET]).xpos.copy()
    env.reset(seed=0)
    env.data.joint("milk_1_joint0").qpos[:3] = (*basket[:2], basket[2] + 0.02)
    env.set_state(env.get_state())
    mujoco.mj_forward(env.model, env.data)
    truth = env.ground_truth()
    assert truth["relations"] == [["in", "milk_1", BASKET]]
    assert truth["held"] is None
