"""A second Python with an environment that only it has, for tests of environments in an interpreter of their own."""

from __future__ import annotations

import shutil
import sysconfig
import venv
from pathlib import Path

GLIDING = Path(__file__).parent / "fixtures" / "gliding" / "gliding.py"
TASKS = [{"prompt": "glide to the disc", "args": {"id": "gliding:Glide-v0"}}]
ARGS = {
    "suite": "gliding",
    "tasks": TASKS,
    "image_size": 32,
    "state_indices": [0, 1],
    "success_key": "is_there",
    "max_steps": 40,
}
SPEC = {"target": "envs.gymnasium.environment:GymnasiumEnv", "args": ARGS}
EXPERT = {"target": "gliding:Homing", "args": {}}


def bare_python(folder: Path) -> Path:
    """Make a virtual environment that holds nothing, and return its python."""
    venv.create(folder, with_pip=False, symlinks=True)
    return folder / "bin" / "python"


def other_python(folder: Path, *, version: str = "7.0") -> Path:
    """Make one that sees what is installed here but none of our own packages, and has the environment besides."""
    python = bare_python(folder)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "what_is_here.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    shutil.copy(GLIDING, site)
    facts = site / f"gliding-{version}.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: gliding\nVersion: {version}\n")
    (facts / "RECORD").write_text("gliding.py,,\n")
    (facts / "top_level.txt").write_text("gliding\n")
    return python
