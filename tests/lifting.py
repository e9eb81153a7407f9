"""An actor with weights made by hand that lifts robosuite's cube: what a training would find, without the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from envs.experts.learned import RELU, Actor, ActorFacts
from envs.experts.privileged import PrivilegedState

GAIN, NEAR_M, SHARPNESS, LIFT = 20.0, 0.03, 200.0, 8.0
"""Per metre of the way to the cube; how near the fingers close; how suddenly; what both fingers' touch adds to dz."""


def lifting_actor(env: Any, path: Path) -> str:
    """Write the actor for `RobosuiteEnv(suite="lift")` and return its path: go to the cube, close near it, rise with it."""
    names = PrivilegedState(env).names
    way = [names.index(f"cube from hand.{axis}") for axis in range(3)]
    touch = [names.index(f"cube touched.{finger}") for finger in range(2)]
    hidden, bias = np.zeros((7, len(names)), np.float32), np.zeros(7, np.float32)
    for axis in range(3):  # the way's positive and negative part
        hidden[2 * axis, way[axis]], hidden[2 * axis + 1, way[axis]] = 1.0, -1.0
    hidden[6, touch], bias[6] = 1.0, -1.0  # both fingers touch
    out, out_bias = np.zeros((4, 7), np.float32), np.array([0.0, 0.0, 0.0, SHARPNESS * NEAR_M], np.float32)
    for axis in range(3):
        out[axis, 2 * axis], out[axis, 2 * axis + 1] = GAIN, -GAIN
    out[2, 6] = LIFT
    out[3, :6], out[3, 6] = -SHARPNESS, SHARPNESS
    facts = ActorFacts(
        state_names=names,
        actions=(0, 1, 2, 6),
        action_repeat=1,
        activation=RELU,
        is_squashed=True,
        task_id=env.task_id,
        algorithm="by hand",
    )
    size = len(names)
    Actor(
        facts=facts,
        mean=np.zeros(size, np.float32),
        scale=np.ones(size, np.float32),
        layers=[(hidden, bias), (out, out_bias)],
    ).save(path)
    return str(path)
