"""The cache of compiled robosuite scenes, one for all tasks of a suite; a scene is described as LIBERO's are."""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mujoco
import numpy as np

from envs.opengl import CACHE_VARIABLE, cache_folder
from envs.panda.scene import MODEL_FILE, SCENE_FILE, LoadedScene, Progress, Scene, exclusive
from envs.robosuite.tasks import SUITES

logger = logging.getLogger(__name__)

SCENE_VERSION = 1
"""Part of the cache key; raise it whenever the builder makes something else of the same files."""
SOURCE_PACKAGES = ("mujoco", "robosuite", "fast-simplification")
"""Distributions whose versions decide what a scene looks like."""


def scene_folder(suite: str) -> Path:
    """Return where a suite's compiled scene is or will be kept; raises RuntimeError without the packages it is made of."""
    return cache_folder() / "robosuite" / f"{SUITES[suite].scene}-{_source_key()}"


def mesh_folder() -> Path:
    """Return where meshes are or will be kept that scenes share, made small."""
    return cache_folder() / "robosuite" / f"meshes-{_source_key()}"


def _source_key() -> str:
    try:
        versions = [f"{name}=={importlib.metadata.version(name)}" for name in SOURCE_PACKAGES]
    except importlib.metadata.PackageNotFoundError as error:
        raise RuntimeError(f"robosuite's tasks need the package {error.name}; install the extra 'sim'") from error
    return hashlib.sha256("\n".join([str(SCENE_VERSION), *versions]).encode()).hexdigest()[:12]


def load_scene(suite: str, *, on_progress: Progress | None = None) -> LoadedScene:
    """Read a suite's compiled scene, building it first where it is missing (RuntimeError where that fails)."""
    folder = scene_folder(suite)
    if not (folder / SCENE_FILE).is_file():
        build_scene(suite, on_progress=on_progress)
    return LoadedScene(
        scene=Scene.from_json((folder / SCENE_FILE).read_text()),
        model=mujoco.MjModel.from_binary_path(str(folder / MODEL_FILE)),
        initial_states=np.empty((0, 0)),
    )


def build_scene(suite: str, *, on_progress: Progress | None = None) -> None:
    """Build a suite's scene unless it is there; several processes may call this at once, one of them builds."""
    report = on_progress or (lambda step, fraction: logger.info("robosuite %s: %3.0f %% %s", suite, 100 * fraction, step))
    folder = scene_folder(suite)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RuntimeError(
            f"the cache folder {folder.parent} cannot be made ({error.strerror}); set {CACHE_VARIABLE} to another"
        ) from error
    with exclusive(folder.with_name(f"{folder.name}.lock")) as lock:
        if (folder / SCENE_FILE).is_file():
            return
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        report("compiling the scene", 0.1)
        _run_builder(suite, partial, lock)
        partial.replace(folder)
        report("ready", 1.0)


def _run_builder(suite: str, folder: Path, lock: int) -> None:
    """Run the builder in a process of its own, where robosuite is imported; it inherits the lock."""
    command = [sys.executable, "-P", "-m", "envs.robosuite.build", suite, str(folder)]
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    variables = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "MUJOCO_GL": "glx", "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, pass_fds=(lock,), check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise RuntimeError(f"the scene of robosuite's {suite} cannot be built: {said}")
