"""The scene cache and the manifest: one builder, whole folders, damage found and named."""

from __future__ import annotations

import fcntl
import hashlib
import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from envs.libero import manifest, scene
from envs.libero.manifest import name_of, require_listed
from envs.libero.scene import STATES_FILE, build_scene, load_scene, scene_folder
from envs.libero.suites import SUITES
from envs.panda.scene import MODEL_FILE, SCENE_FILE, Scene


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("OPENTAU_CACHE", str(tmp_path))
    return tmp_path


def _write_scene(suite: str, task_id: int, folder: Path, report: scene.Progress, lock: int, *, is_original: bool) -> None:
    for name in (MODEL_FILE, STATES_FILE, SCENE_FILE):
        (folder / name).write_text("x")
    report("written", 0.9)


def test_processes_that_start_at_once_build_a_scene_once(cache, monkeypatch):
    builds: list[int] = []
    both_wait = threading.Barrier(3)

    def slow_builder(suite: str, task_id: int, folder: Path, report: scene.Progress, lock: int, *, is_original: bool) -> None:
        builds.append(task_id)
        _write_scene(suite, task_id, folder, report, lock, is_original=is_original)

    def start() -> None:
        both_wait.wait()
        build_scene("libero_object", 0)

    monkeypatch.setattr(scene, "_run_builder", slow_builder)
    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert builds == [0]
    assert (scene_folder("libero_object", 0) / SCENE_FILE).is_file()


def test_what_a_killed_builder_left_is_thrown_away(cache, monkeypatch):
    folder = scene_folder("libero_object", 0)
    partial = folder.with_suffix(".partial")
    partial.mkdir(parents=True)
    (partial / "half a file").write_text("x")
    monkeypatch.setattr(scene, "_run_builder", _write_scene)
    build_scene("libero_object", 0)
    assert sorted(path.name for path in folder.iterdir()) == sorted([MODEL_FILE, STATES_FILE, SCENE_FILE])
    assert not partial.exists()


def test_a_builder_whose_caller_was_killed_keeps_its_folder_to_itself(cache, tmp_path):
    """The caller dies at once; its builder, here a sleep, holds the lock until it ends."""
    slow_python = tmp_path / "python"
    slow_python.write_text("#!/bin/sh\necho started\nsleep 1.5\n")
    slow_python.chmod(0o755)
    caller = (
        "import os\nfrom envs.libero import scene\n"
        f"scene.sys.executable = {str(slow_python)!r}\n"
        "scene.json.loads = lambda line: os._exit(9)\n"
        "scene.build_scene('libero_object', 0)\n"
    )
    root = Path(__file__).resolve().parents[3]
    assert subprocess.run([sys.executable, "-c", caller], cwd=root, check=False).returncode == 9
    lock_path = scene_folder("libero_object", 0).with_name(f"{scene_folder('libero_object', 0).name}.lock")
    with lock_path.open("w") as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(lock, fcntl.LOCK_EX)


def test_progress_reaches_the_callback(cache, monkeypatch):
    monkeypatch.setattr(scene, "_run_builder", _write_scene)
    told: list[tuple[str, float]] = []
    build_scene("libero_object", 0, on_progress=lambda step, fraction: told.append((step, fraction)))
    assert told == [("written", 0.9), ("ready", 1.0)]


def test_a_builder_that_fails_leaves_no_scene_and_says_why(cache, monkeypatch):
    monkeypatch.setattr(scene.sys, "executable", "false")
    with pytest.raises(RuntimeError, match="scene of libero_object task 0 cannot be built: exit code 1"):
        build_scene("libero_object", 0)
    assert not scene_folder("libero_object", 0).exists()


def test_a_cache_that_cannot_be_made_is_an_error_with_the_fix(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OPENTAU_CACHE", str(tmp_path / "file"))
    with pytest.raises(RuntimeError, match=r"cannot be made .* set OPENTAU_CACHE"):
        build_scene("libero_object", 0)


def test_unknown_tasks_are_refused_before_anything_is_built(cache):
    with pytest.raises(ValueError, match="there is no LIBERO suite 'libero_gaol'; did you mean libero_goal"):
        load_scene("libero_gaol", 0)
    assert list(cache.iterdir()) == []


@pytest.mark.libero
def test_a_scene_survives_its_json():
    loaded = load_scene("libero_object", 3)
    assert Scene.from_json(loaded.scene.to_json()) == loaded.scene
    assert loaded.initial_states.shape == (50, 1 + loaded.model.nq + loaded.model.nv)
    assert loaded.initial_states.dtype == np.float64
    assert len(loaded.scene.content_hash) == 64


def test_a_file_that_changed_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest.sysconfig, "get_paths", lambda: {"platlib": str(tmp_path)})
    monkeypatch.setattr(manifest, "MANIFEST", tmp_path / "manifest.json")
    mesh = tmp_path / "assets" / "milk.obj"
    mesh.parent.mkdir()
    mesh.write_text("v 0 0 0")
    manifest.MANIFEST.write_text(json.dumps({"assets/milk.obj": hashlib.sha256(b"v 0 0 0").hexdigest()}))
    require_listed([mesh])
    mesh.write_text("v 0 0 1")
    with pytest.raises(RuntimeError, match=r"assets/milk\.obj has the sha256 .* changed or damaged"):
        require_listed([mesh])
    other = mesh.with_name("juice.obj")
    other.write_text("")
    with pytest.raises(RuntimeError, match=r"assets/juice\.obj is not in manifest\.json"):
        require_listed([other])


@pytest.mark.libero
def test_the_manifest_lists_what_a_scene_is_made_of():
    from envs.libero.stock import open_stock_task

    listed = json.loads(manifest.MANIFEST.read_text())
    task = open_stock_task("libero_object", 9)
    require_listed(task.files)
    assert {name_of(path) for path in task.files} <= set(listed)
    assert {name_of(path) for suite in SUITES for path in open_stock_task(suite, 9).files} <= set(listed)
    kinds = {Path(name).suffix for name in listed}
    assert {".bddl", ".npz", ".xml", ".obj", ".stl", ".png"} <= kinds
    assert not any(name.startswith("/") for name in listed)
