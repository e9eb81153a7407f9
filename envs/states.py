"""How the full state of a MuJoCo simulation is read and restored."""

from __future__ import annotations

import mujoco
import numpy as np

STATE = mujoco.mjtState.mjSTATE_INTEGRATION
"""What of MuJoCo's state decides the future."""


def read_state(model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    """Return the full simulator state, float64 [N]."""
    state = np.empty(mujoco.mj_stateSize(model, STATE))
    mujoco.mj_getState(model, data, state, STATE)
    return state


def write_state(model: mujoco.MjModel, data: mujoco.MjData, state: np.ndarray) -> None:
    """Restore what `read_state` returned."""
    mujoco.mj_setState(model, data, np.ascontiguousarray(state, np.float64), STATE)
    mujoco.mj_fwdPosition(model, data)
