"""What the tabletop says of itself: boxes as seen, what is held, what lies on the tray."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from envs.experts.pick_place import PickPlaceExpert
from envs.tabletop.environment import COLOURS, TabletopEnv
from opentau.protocols import GroundedEnv

CLOSE, OPEN = np.array([0, 0, 0, 0, 0, 0, 1.0]), np.array([0, 0, 0, 0, 0, 0, -1.0])


@pytest.fixture(scope="module")
def env() -> Iterator[TabletopEnv]:
    env = TabletopEnv(image_size=64, placement_range=1.0)
    yield env
    env.close()


def is_of_colour(image: np.ndarray, colour: str) -> np.ndarray:
    """Return which pixels are clearly of a cube's colour, bool [Y, X]."""
    red, green, blue = (image[..., channel].astype(int) for channel in range(3))
    return {
        "red": (red > 80) & (red > 2 * green) & (red > 2 * blue),
        "green": (green > 60) & (green > 2 * red) & (green > 2 * blue),
        "blue": (blue > 80) & (blue > 2 * red) & (blue > 2 * green),
        "yellow": (red > 80) & (green > 0.7 * red) & (blue < 0.4 * red),
    }[colour]


def box_of(is_inside: np.ndarray) -> list[float]:
    rows, columns = np.flatnonzero(is_inside.any(axis=1)), np.flatnonzero(is_inside.any(axis=0))
    height, width = is_inside.shape
    return [rows[0] / height, columns[0] / width, (rows[-1] + 1) / height, (columns[-1] + 1) / width]


def test_it_is_plain_data_and_the_environment_obeys_the_protocol(env: TabletopEnv) -> None:
    env.reset(seed=0)
    assert isinstance(env, GroundedEnv)
    truth = env.ground_truth()
    assert json.loads(json.dumps(truth)) == truth
    assert truth["objects"]["red_cube"]["name"] == "red cube"
    assert truth["objects"]["tray"]["is_movable"] is False
    assert (truth["held"], truth["touched"], truth["relations"]) == (None, [], [])


@pytest.mark.parametrize("camera", ["agentview", "wrist"])
def test_boxes_are_those_of_the_colours_in_the_pictures(env: TabletopEnv, camera: str) -> None:
    num_compared = 0
    for seed in range(6):
        image = env.reset(seed=seed)[0]["images"][camera]
        seen = env.ground_truth()["cameras"][camera]
        for colour in COLOURS:
            is_colour = is_of_colour(image, colour)
            if is_colour.sum() >= 12:
                box = seen[f"{colour}_cube"]["box"]
                # The picture has 64 pixels, a box is read off a finer one; a dark side of a cube may not count as coloured.
                assert np.abs(np.subtract(box, box_of(is_colour))).max() < 2.5 / 64
                assert seen[f"{colour}_cube"]["share"] == pytest.approx(is_colour.mean(), rel=0.5)
                num_compared += 1
    assert num_compared >= 12


def test_reading_the_truth_changes_neither_pictures_nor_state(env: TabletopEnv) -> None:
    env.reset(seed=1)
    before, state = env.observe(), env.get_state()
    env.ground_truth()
    after = env.observe()
    assert all(np.array_equal(before["images"][camera], after["images"][camera]) for camera in before["images"])
    assert np.array_equal(env.get_state(), state)


def test_a_cube_is_held_from_the_lift_to_the_release_and_then_lies_on_the_tray(env: TabletopEnv) -> None:
    env.reset(seed=2)
    expert = PickPlaceExpert(env)
    expert.start(seed=0, is_clean=True)
    held_in = set()
    is_over = False
    while not is_over:
        action = expert.act()
        truth = env.ground_truth()
        if truth["held"]:
            assert truth["touched"] == [truth["held"]] == ["red_cube"]
            held_in.add(str(expert.phase))
        else:
            assert expert.phase != "carry"
        is_over = env.advance(action)[1]
    assert {"lift", "carry", "lower"} <= held_in
    assert not held_in & {"reach", "descend"}
    truth = env.ground_truth()
    assert truth["relations"] == [["on", "red_cube", "tray"]]
    assert truth["held"] is None


def test_a_cube_that_is_squeezed_against_the_tray_is_touched_but_not_held(env: TabletopEnv) -> None:
    env.reset(seed=0)
    address = env.model.joint("hand").qposadr[0]
    env.data.qpos[address : address + 3] = env.data.mocap_pos[0] = (0.0, 0.22, 0.03)
    env.data.joint("red_cube").qpos[:3] = (0.0, 0.22, 0.027)
    for _ in range(4):
        env.advance(CLOSE)
    env.data.joint("red_cube").qpos[2] -= 0.001  # down onto the tray, which carries it
    env.set_state(env.get_state())
    truth = env.ground_truth()
    assert truth["touched"] == ["red_cube"]
    assert truth["held"] is None
    for _ in range(4):
        env.advance(OPEN)
    assert env.ground_truth()["touched"] == []
