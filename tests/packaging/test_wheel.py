"""The wheel: complete, undisturbed by folders that carry our names where it is used, and light where a robot needs it."""

from __future__ import annotations

import importlib.metadata
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS_OF_A_ROBOT = (
    "robot_bridge.station, robot_bridge.describe, robot_bridge.wire.telemetry, robot_bridge.supervisors, opentau.cli.main"
)

pytestmark = pytest.mark.loop


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    return next(folder.glob("*.whl"))


def install(wheel: Path, target: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(target),
        str(wheel),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


def test_the_wheel_plans_a_loop_beside_a_folder_named_envs(wheel: Path, tmp_path: Path) -> None:
    elsewhere, target = tmp_path / "elsewhere", tmp_path / "site"
    (elsewhere / "envs").mkdir(parents=True)
    (elsewhere / "envs" / "__init__.py").write_text("raise ImportError('a stranger')\n")
    install(wheel, target)
    environment = {**os.environ, "PYTHONPATH": str(target), "OPENTAU_RUNS": str(tmp_path / "runs")}
    opentau = [sys.executable, str(target / "bin" / "opentau")]
    planned = subprocess.run(
        [*opentau, "loop", "--dry-run"],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert planned.returncode == 0, planned.stderr
    assert "gate-2" in planned.stdout
    where = [sys.executable, "-P", "-c", "import opentau, envs, configs; print(opentau.__file__, envs.__file__)"]
    found = subprocess.run(where, cwd=elsewhere, env=environment, capture_output=True, text=True, check=True)
    assert all(path.startswith(str(target)) for path in found.stdout.split())


@pytest.fixture
def robot_python(wheel: Path, tmp_path: Path) -> Path:
    """An interpreter that has the wheel and what it requires without any extra, and nothing else.

    What is required is linked from here, so that no index is asked.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True, timeout=60)
    python = tmp_path / "venv" / "bin" / "python"
    asked = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip())
    install(wheel, site)
    (distribution,) = importlib.metadata.distributions(name="opentau-loop", path=[str(site)])
    for name in required(distribution):
        for entry in top_level(importlib.metadata.distribution(name)):
            if not (site / entry.name).exists():
                (site / entry.name).symlink_to(entry)
    return python


def required(distribution: importlib.metadata.Distribution) -> set[str]:
    """Return the names of what a distribution requires without extras, and of what that requires."""
    found: set[str] = set()
    waiting = [distribution]
    while waiting:
        for line in waiting.pop().requires or ():
            name = re.match(r"[\w.-]+", line)[0].lower().replace("_", "-")
            if ";" in line or name in found:
                continue  # an extra's, or another platform's
            found.add(name)
            waiting.append(importlib.metadata.distribution(name))
    return found


def top_level(distribution: importlib.metadata.Distribution) -> set[Path]:
    """Return the packages and modules that a distribution put beside each other."""
    roots = {Path(file).parts[0] for file in distribution.files or () if not str(file).startswith("..")}
    return {Path(str(distribution.locate_file(root))) for root in roots}


def processor_seconds() -> float:
    """Return what ended child processes took: what they would take by the clock with a processor of their own."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_a_robot_needs_the_base_wheel_alone_and_its_station_is_there_in_under_a_second(robot_python: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [str(robot_python), "-P", *arguments]
        return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, timeout=60, check=False)

    assert "No module named 'torch'" in run("-c", "import torch").stderr
    imported = run("-c", f"import {PARTS_OF_A_ROBOT}")
    assert imported.returncode == 0, imported.stderr
    seconds = []
    for _ in range(5):
        started_s = processor_seconds()
        told = run("-m", "robot_bridge.station", "--help")
        seconds.append(processor_seconds() - started_s)
    assert told.returncode == 0, told.stderr
    assert "image_encoding: jpeg" in told.stdout
    print(f"the station's help took {min(seconds):.2f} s of processor time")
    assert min(seconds) < 1.0
