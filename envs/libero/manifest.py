"""Names and hashes of the third-party files that scenes are made of; run as a program, it writes the committed list anew."""

from __future__ import annotations

import hashlib
import json
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mujoco

from envs.libero.stock import contents_of, make_stock_env, open_stock_task
from envs.libero.suites import ALL_SUITES

MANIFEST = Path(__file__).with_name("manifest.json")


def require_listed(paths: Iterable[Path]) -> None:
    """Raise RuntimeError naming the first file that the manifest does not list, or lists with another hash."""
    listed = json.loads(MANIFEST.read_text())
    for path in paths:
        name = name_of(path)
        if name not in listed:
            raise RuntimeError(
                f"{name} is not in {MANIFEST.name}: another version of LIBERO or robosuite is installed; install the locked one"
            )
        found = _sha256(path)
        if found != listed[name]:
            raise RuntimeError(
                f"{name} has the sha256 {found}, {MANIFEST.name} says {listed[name]}: the file was changed or damaged; "
                "reinstall the package it belongs to"
            )


def name_of(path: Path) -> str:
    """Return a file's name relative to the folder of installed packages."""
    packages = Path(sysconfig.get_paths()["platlib"]).resolve()
    path = path.resolve()
    return path.relative_to(packages).as_posix() if path.is_relative_to(packages) else str(path)


def scene_files(env: Any) -> list[Path]:
    """Return the model, mesh and texture files of a stock LIBERO environment, sorted."""
    robot = env.robots[0].robot_model
    described = [*env.objects_dict.values(), *env.fixtures_dict.values(), robot, env.robots[0].gripper, env.model.mujoco_arena]
    files = {Path(thing.file) for thing in [*described, *([robot.mount] if robot.mount else [])]}
    spec = mujoco.MjSpec.from_string(env.model.get_xml())
    files |= {Path(asset.file) for asset in [*spec.meshes, *spec.textures] if asset.file}
    return sorted(path.resolve() for path in files)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write() -> None:
    """List the files of all suites; of tasks that show the same things, one is opened."""
    listed: dict[str, str] = {}
    opened: set[str] = set()
    for suite, known in ALL_SUITES.items():
        for task_id in range(known.num_tasks):
            task = open_stock_task(suite, task_id)
            files = list(task.files)
            if (contents := contents_of(task)) not in opened:
                opened.add(contents)
                wrapper = make_stock_env(task)
                files += scene_files(wrapper.env)
                wrapper.close()
                print(f"{suite}/{task_id}: {len(files)} files", flush=True)
            listed |= {name_of(path): _sha256(path) for path in files}
    MANIFEST.write_text(json.dumps(listed, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    _write()
