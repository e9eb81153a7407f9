"""Opens stock LIBERO: the only module that imports it, and only where a scene is built or stepped exactly."""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from envs.libero.suites import require_task
from envs.panda.stock import imports_without_opengl

SAID_IN_FILE = ("_lan", "_task")
"""Suites of LIBERO-PRO whose instructions stand in their files: the files' names, which LIBERO reads, are the old tasks'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StockTask:
    """A task as LIBERO's benchmark lists it."""

    suite: str
    task_id: int
    prompt: str
    bddl_path: Path
    initial_states: np.ndarray
    """float64 [50, 1 + nq + nv]."""
    files: tuple[Path, ...]
    """Where the task and its initial states were read."""


def open_stock_task(suite: str, task_id: int) -> StockTask:
    """Look a task up in LIBERO's benchmark, in its published order."""
    require_task(suite, task_id)
    with imports_without_opengl(), contextlib.redirect_stdout(io.StringIO()):
        from libero.libero import get_default_path_dict  # optional package, extra 'sim'
        from libero.libero.benchmark import get_benchmark

        task = get_benchmark(suite)(task_order_index=0).get_task(task_id)
    # The files of the package, not those that a user's LIBERO configuration may point to: LIBERO evaluates bddl files.
    folders = {name: Path(folder).resolve() for name, folder in get_default_path_dict().items()}
    bddl_path = folders["bddl_files"] / task.problem_folder / task.bddl_file
    states_path = folders["init_states"] / task.problem_folder / f"{task.init_states_file}.npz"
    with np.load(states_path, allow_pickle=False) as file:
        states = np.asarray(file["states"], np.float64)
    return StockTask(
        suite=suite,
        task_id=task_id,
        prompt=_said(bddl_path) if suite.endswith(SAID_IN_FILE) else task.language,
        bddl_path=bddl_path,
        initial_states=states,
        files=(bddl_path, states_path),
    )


def _said(bddl_path: Path) -> str:
    """Return the instruction that a bddl file holds, in lower case as LIBERO's are."""
    found = re.search(r"\(:language\s+([^)]*)\)", bddl_path.read_text())
    if found is None:
        raise RuntimeError(f"{bddl_path.name} holds no instruction; install the locked version of LIBERO")
    return found[1].strip().lower()


def contents_of(task: StockTask) -> str:
    """Return what a task's bddl file puts into its scene; equal texts mean equal models, meshes and textures."""
    with imports_without_opengl(), contextlib.redirect_stdout(io.StringIO()):
        from libero.libero.envs.bddl_utils import robosuite_parse_problem  # optional package, extra 'sim'

        problem = robosuite_parse_problem(str(task.bddl_path))
    kinds = (problem["problem_name"], sorted(problem["objects"]), sorted(problem["fixtures"]))
    return repr(kinds)


def make_stock_env(task: StockTask) -> Any:
    """Make LIBERO's own environment without its renderer and without a horizon."""
    with imports_without_opengl(), contextlib.redirect_stdout(io.StringIO()):
        from libero.libero.envs.env_wrapper import ControlEnv  # optional package, extra 'sim'

        return ControlEnv(
            bddl_file_name=str(task.bddl_path), has_offscreen_renderer=False, use_camera_obs=False, ignore_done=True
        )
