"""LIBERO's own initial states."""

from __future__ import annotations

import mujoco
import numpy as np

from envs.panda.placement import InitialState, draw_initial_state
from envs.panda.scene import Scene


def official_initial_state(model: mujoco.MjModel, scene: Scene, states: np.ndarray, index: int) -> InitialState:
    """Return an official initial state; fixtures, which LIBERO does not keep, are drawn from the index.

    Raises ValueError when there is no such state.
    """
    if not 0 <= index < len(states):
        raise ValueError(f"{scene.suite} task {scene.task_id} has the initial states 0 to {len(states) - 1}, not {index}")
    row = states[index]
    drawn = draw_initial_state(model, scene, np.random.default_rng([scene.task_id, index]))
    return InitialState(
        qpos=row[1 : 1 + model.nq].copy(),
        qvel=row[1 + model.nq :].copy(),
        fixture_poses=drawn.fixture_poses,
        is_official=True,
    )
