"""TabletopEnv: what counts as success, where the cubes lie, and which options are refused."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from envs.tabletop.environment import CUBE_SPACING_M, CUBES, TabletopEnv

STILL_OPEN = np.array([0, 0, 0, 0, 0, 0, -1], np.float32)


@pytest.fixture(scope="module")
def env() -> Iterator[TabletopEnv]:
    env = TabletopEnv(image_size=16, placement_range=1.0)
    yield env
    env.close()


def positions(env: TabletopEnv) -> np.ndarray:
    return np.array([env.data.body(name).xpos.copy() for name in CUBES])


def put(env: TabletopEnv, cube: str, position: tuple[float, float, float]) -> None:
    env.data.joint(cube).qpos[:3] = position
    env.data.joint(cube).qvel[:] = 0


@pytest.mark.parametrize(
    ("cube", "position", "is_success"),
    [
        ("red_cube", (0.0, 0.22, 0.03), True),
        ("red_cube", (0.04, 0.25, 0.03), True),
        ("red_cube", (0.0, 0.10, 0.03), False),
        ("green_cube", (0.0, 0.22, 0.03), False),
    ],
    ids=["centre", "off the centre", "beside the tray", "the wrong colour"],
)
def test_success_is_the_named_cube_lying_on_the_tray(
    env: TabletopEnv, cube: str, position: tuple[float, float, float], is_success: bool
) -> None:
    env.reset(seed=0)
    put(env, cube, position)
    for _ in range(4):
        _, terminated, _, info = env.advance(STILL_OPEN)
    assert terminated is info["is_success"] is is_success


def test_a_cube_on_top_of_another_does_not_lie_on_the_tray(env: TabletopEnv) -> None:
    env.reset(seed=0)
    put(env, "green_cube", (0.0, 0.22, 0.03))
    put(env, "red_cube", (0.0, 0.22, 0.075))
    for _ in range(4):
        _, terminated, _, _ = env.advance(STILL_OPEN)
    assert not terminated


def test_a_cube_between_the_fingers_is_not_yet_put_down(env: TabletopEnv) -> None:
    env.reset(seed=0)
    address = env.model.joint("hand").qposadr[0]
    env.data.qpos[address : address + 3] = env.data.mocap_pos[0] = (0.0, 0.22, 0.03)
    put(env, "red_cube", (0.0, 0.22, 0.03))
    close = np.array([0, 0, 0, 0, 0, 0, 1], np.float32)
    for _ in range(4):
        reward, terminated, _, _ = env.advance(close)
    assert (reward, terminated) == (0.0, False)
    for _ in range(4):
        reward, terminated, _, _ = env.advance(STILL_OPEN)
    assert (reward, terminated) == (1.0, True)


def test_every_cube_starts_apart_from_the_others_and_off_the_tray(env: TabletopEnv) -> None:
    for seed in range(30):
        env.reset(seed=seed)
        now = positions(env)
        distance = np.linalg.norm(now[:, None, :2] - now[None, :, :2], axis=-1) + np.eye(len(CUBES))
        assert distance.min() >= CUBE_SPACING_M
        assert now[:, 1].max() < 0.08


def test_the_placement_range_scales_from_fixed_to_anywhere() -> None:
    spreads = []
    for placement_range in (0.0, 0.5, 1.0):
        env = TabletopEnv(image_size=16, placement_range=placement_range)
        starts = []
        for seed in range(20):
            env.reset(seed=seed)
            starts.append(positions(env))
        env.close()
        spreads.append(float(np.std(starts, axis=0)[:, :2].mean()))
    assert spreads[0] < 1e-9
    assert 0.01 < spreads[1] < spreads[2] - 0.01


def test_only_yaw_turns_the_hand_and_it_keeps_pointing_down(env: TabletopEnv) -> None:
    env.reset(seed=0)
    for _ in range(5):
        env.advance(np.array([0, 0, 0, 1, 1, 0.5, -1], np.float32))
    rotation = env.data.body("hand").xmat.reshape(3, 3)
    assert rotation[2, 2] < -0.999
    assert np.arctan2(rotation[1, 0], rotation[0, 0]) > 0.5


def test_the_hand_stays_above_the_table_however_hard_it_pushes(env: TabletopEnv) -> None:
    env.reset(seed=0)
    for _ in range(40):
        env.advance(np.array([1, -1, -1, 0, 0, 0, -1], np.float32))
    state = env.observe()["state"]
    assert state[2] > 0.005
    assert (np.abs(state[:2]) < 0.4).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task_id": 4}, "0 to 3"),
        ({"placement_range": 1.5}, "between 0"),
        ({"max_steps": 0}, "at least 1"),
        ({"image_size": 4}, "8 to"),
    ],
)
def test_options_that_do_not_exist_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TabletopEnv(**options)  # type: ignore[arg-type]


def test_reset_names_the_option_it_does_not_know(env: TabletopEnv) -> None:
    with pytest.raises(ValueError, match="inital_state"):
        env.reset(options={"inital_state": 3})


def test_the_env_id_tells_apart_what_changes_an_episode() -> None:
    envs = [TabletopEnv(image_size=16), TabletopEnv(image_size=24), TabletopEnv(image_size=16, placement_range=0.5)]
    assert len({env.env_id for env in envs}) == 3
    assert TabletopEnv(image_size=16).env_id == envs[0].env_id
