"""robosuite environments shared by the tests of this folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

# Stock stepping compiles small functions on first use; uncompiled they are fast enough for a few steps.
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")

from envs.robosuite.build import BUILD_SEED
from envs.robosuite.environment import RobosuiteEnv
from envs.robosuite.stock import make_stock_env
from envs.robosuite.tasks import SUITES

TASKS = [(suite, task_id) for suite, known in SUITES.items() for task_id in range(len(known.tasks))]
"""All of robosuite's tasks that are offered."""


@pytest.fixture(scope="module", params=TASKS, ids=[f"{suite}-{task_id}" for suite, task_id in TASKS])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[RobosuiteEnv, Any]]:
    """A task with lean stepping, and stock robosuite with its dense reward and the model that the scene was built from."""
    suite, task_id = request.param
    env = RobosuiteEnv(suite=suite, task_id=task_id, image_size=32)
    kept = np.random.get_state()  # noqa: NPY002, stock robosuite draws from the global generator
    np.random.seed(BUILD_SEED)  # noqa: NPY002
    stock = make_stock_env(env.task.stock_name, is_shaped=True)
    stock.hard_reset = False  # a hard reset draws another model
    yield env, stock
    np.random.set_state(kept)  # noqa: NPY002
    env.close()
