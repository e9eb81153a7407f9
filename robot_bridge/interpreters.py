"""Programs of ours under somebody else's Python: which interpreter, whether it can, and what it is given of ours."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import opentau
from opentau.config import cache_dir
from opentau.errors import OptionError

OLDEST = (3, 11)
"""Of Python, that our station runs on."""
STATION_PACKAGES = ("opentau", "robot_bridge", "envs")
"""Of ours, that a station imports; never torch."""
NEEDED = {"numpy": "numpy", "zmq": "pyzmq", "msgspec": "msgspec", "yaml": "pyyaml", "PIL": "pillow"}
"""Module to the package that a station needs from others, in whatever version."""
_PROBE = (
    "import importlib.util, json, sys; print(json.dumps([list(sys.version_info[:2]), "
    "[name for name in sys.argv[1:] if importlib.util.find_spec(name) is None]]))"
)
_PROBE_TIMEOUT_S = 60.0


def module_command(interpreter: str, module: str, arguments: Sequence[str]) -> list[str]:
    """Return the command that runs one of our modules; '' is this Python. Raises `OptionError` as `find` does."""
    python = find(interpreter) if interpreter else sys.executable
    return [str(python), "-P", "-m", module, *arguments]


def environment_of(interpreter: str) -> dict[str, str]:
    """Return the variables of a process there, which sees the station's packages and nothing else that is installed here."""
    if not interpreter:
        return dict(os.environ)
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "VIRTUAL_ENV")}
    places = hashlib.sha256(repr([_place_of(package) for package in STATION_PACKAGES]).encode()).hexdigest()[:16]
    return {**kept, "PYTHONPATH": str(link_packages(cache_dir() / "packages" / places, STATION_PACKAGES))}


def link_packages(folder: Path, packages: Sequence[str]) -> Path:
    """Fill a folder with links to packages of ours alone: all of our site-packages would bring other versions along."""
    folder.mkdir(parents=True, exist_ok=True)
    for package in packages:
        with contextlib.suppress(FileExistsError):
            (folder / package).symlink_to(_place_of(package), target_is_directory=True)
    return folder.absolute()


def find(interpreter: str) -> Path:
    """Return the path of an interpreter, from here or from the checkout; raises `OptionError` where none runs."""
    named = Path(interpreter).expanduser()
    candidates = [root / named for root in (Path.cwd(), Path(opentau.__file__).parents[1])]
    for candidate in candidates:
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate  # not resolved: what a virtual environment holds is found by the link's own place
    raise OptionError(
        f"interpreter is {interpreter!r}, and {candidates[0]} is no program that runs; name the python of the environment's "
        "own virtual environment: env.interpreter=/path/to/venv/bin/python"
    )


def require_usable(interpreter: str) -> None:
    """Start an interpreter once and raise `OptionError` unless it is new enough and has what a station needs."""
    python = find(interpreter)
    variables = {**environment_of(interpreter), "PYTHONSAFEPATH": "1"}
    try:
        done = subprocess.run(
            [str(python), "-c", _PROBE, *NEEDED],
            env=variables, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False,
        )  # fmt: skip
        version, missing = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
        raise OptionError(f"interpreter is {interpreter!r}, and {python} does not answer as a Python does: {error}") from error
    if tuple(version) < OLDEST:
        raise OptionError(
            f"interpreter {python} is Python {version[0]}.{version[1]}; a station runs on {OLDEST[0]}.{OLDEST[1]} or newer. "
            "Make the environment's virtual environment with a newer Python"
        )
    if missing:
        packages = " ".join(NEEDED[name] for name in missing)
        raise OptionError(
            f"interpreter {python} has no {', '.join(missing)}, which a station needs beside the environment; run "
            f"{python} -m pip install {packages}"
        )


def _place_of(package: str) -> str:
    spec = importlib.util.find_spec(package)
    assert spec is not None, "a package of this installation"
    assert spec.submodule_search_locations is not None, "a package has a folder"
    return str(Path(spec.submodule_search_locations[0]).absolute())
