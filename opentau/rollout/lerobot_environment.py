"""LeRobot's own Python environment: where it is, and what a process in it is given of ours."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import opentau
from opentau.errors import OptionError
from robot_bridge.interpreters import link_packages

VARIABLE = "OPENTAU_LEROBOT_PYTHON"
LOCAL_PYTHON = Path(".venv-lerobot/bin/python")
"""Where `make lerobot-env` puts it."""
PACKAGES = ("opentau", "robot_bridge", "lerobot_side")
SINGLE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


def lerobot_python(asked: str | None = None) -> Path:
    """Return the interpreter of LeRobot's environment: the one asked for, else of the variable, else of `make lerobot-env`."""
    named = asked or os.environ.get(VARIABLE)
    roots = (Path.cwd(), Path(opentau.__file__).parents[1])
    candidates = [Path(named).expanduser()] if named else [root / LOCAL_PYTHON for root in roots]
    for candidate in candidates:
        if os.access(candidate, os.X_OK):
            return candidate
    raise OptionError(
        f"LeRobot's policies need LeRobot's own environment, and {candidates[0]} is no interpreter that runs. Make it with "
        f"`make lerobot-env`, or name its python: policy.args.python=…, or {VARIABLE}=…"
    )


def module_command(python: Path, module: str, arguments: Sequence[str]) -> list[str]:
    """Return the command that runs one of our modules there."""
    return [str(python), "-P", "-m", module, *arguments]


def environment_variables(folder: Path) -> dict[str, str]:
    """Return the variables of a process there; `folder` is filled with links to our packages, and with nothing else of ours.

    Our own site-packages on its path would give LeRobot another numpy and another torch than it was installed with.
    """
    return {**os.environ, **SINGLE_THREAD, "PYTHONPATH": str(link_packages(folder, PACKAGES))}
