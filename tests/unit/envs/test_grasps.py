"""Grasp and placement geometry on small hand-made scenes."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from envs.experts.grasps import MAX_OPENING_M, finger_axes, free_spot, plan_grasp, spoil_grasp, tilting_shift
from envs.experts.shapes import Box, Shape

SCENE = """<mujoco><worldbody>
  <body name="bar" pos="0.1 0 0.02" euler="0 0 {bar_deg}"><geom type="box" size="0.03 0.015 0.02"/></body>
  <body name="post" pos="{post}"><geom type="box" size="0.02 0.02 {post_half}"/></body>
  <body name="ghost"><geom type="sphere" size="0.02" contype="0" conaffinity="0"/></body>
</worldbody></mujoco>"""


def shapes(*, bar_deg: float = 0.0, post: str = "0.5 0.5 0.02", post_half: float = 0.02) -> tuple[mujoco.MjData, Shape, Shape]:
    model = mujoco.MjModel.from_xml_string(SCENE.format(bar_deg=bar_deg, post=post, post_half=post_half))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return data, Shape(model, data, model.body("bar").id), Shape(model, data, model.body("post").id)


@pytest.mark.parametrize("bar_deg", [0.0, 35.0, -60.0])
def test_a_bar_is_grasped_across_its_narrow_side(bar_deg: float) -> None:
    data, bar, post = shapes(bar_deg=bar_deg)
    grasp = plan_grasp(bar, [post], data)
    along, _ = finger_axes(grasp.yaw)
    assert np.ptp(bar.points(data)[:, :2] @ along) < 0.04
    assert grasp.position[:2] == pytest.approx([0.1, 0.0], abs=1e-6)
    assert 0.01 < grasp.position[2] < 0.03


def test_a_grasp_leaves_room_for_the_fingers_beside_a_neighbour() -> None:
    data, bar, _ = shapes()
    alone = plan_grasp(bar, [], data)
    data, bar, post = shapes(post="0.1 0.05 0.02")
    crowded = plan_grasp(bar, [post], data)
    assert abs(crowded.yaw - alone.yaw) > 0.2
    along, _ = finger_axes(crowded.yaw)
    assert np.ptp(bar.points(data)[:, :2] @ along) < MAX_OPENING_M


def test_the_palm_avoids_a_tall_neighbour_that_the_fingers_clear() -> None:
    data, bar, post = shapes(post="0.1 0.1 0.1", post_half=0.1)
    assert abs(plan_grasp(bar, [post], data).yaw) > 0.2
    data, bar, post = shapes(post="0.1 0.1 0.01", post_half=0.01)
    assert abs(plan_grasp(bar, [post], data).yaw) < 0.1


def test_a_spoiled_grasp_misses_the_object() -> None:
    data, bar, _ = shapes()
    grasp, points = plan_grasp(bar, [], data), bar.points(data)
    for seed in range(20):
        spoiled = spoil_grasp(grasp, points, rng=np.random.default_rng(seed))
        _, across = finger_axes(spoiled.yaw)
        beside_m = np.abs((spoiled.position - grasp.position)[:2] @ across) - np.ptp(points[:, :2] @ across) / 2
        above_m = spoiled.position[2] - points[:, 2].max()
        assert beside_m > 0.01 or above_m > 0.004


def test_the_nearest_free_spot_of_a_support_keeps_away_from_what_lies_there() -> None:
    tray = Box(low=np.array([-0.08, 0.14, 0.0]), high=np.array([0.08, 0.30, 0.02]))
    cube = Box(low=np.array([-0.02, 0.20, 0.006]), high=np.array([0.02, 0.24, 0.05]))
    far = Box(low=np.array([-0.2, -0.2, 0.0]), high=np.array([-0.16, -0.16, 0.044]))
    assert free_spot(tray, []) == pytest.approx([0.0, 0.22])
    assert free_spot(tray, [far]) == pytest.approx([0.0, 0.22])
    spot = free_spot(tray, [cube])
    assert np.linalg.norm(spot - cube.centre[:2]) >= 0.04
    assert tray.distance_xy(spot) == 0.0


def test_an_object_too_long_for_a_container_goes_in_end_first() -> None:
    opening = Box(low=np.array([-0.08, -0.08, 0.0]), high=np.array([0.08, 0.08, 0.14]))
    short = np.array([[-0.05, 0.0, 0.0], [0.05, 0.0, 0.0]])
    long = np.array([[-0.075, 0.0, 0.0], [0.075, 0.0, 0.0]])
    assert tilting_shift(short, opening) == pytest.approx([0.0, 0.0])
    assert np.abs(tilting_shift(long, opening)) == pytest.approx([0.02, 0.0], abs=1e-6)


def test_a_body_without_collision_geoms_has_no_shape() -> None:
    model = mujoco.MjModel.from_xml_string(SCENE.format(bar_deg=0, post="0.5 0.5 0.02", post_half=0.02))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    with pytest.raises(ValueError, match="ghost"):
        Shape(model, data, model.body("ghost").id)
