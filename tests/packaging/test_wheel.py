"""The wheel: complete, and undisturbed by folders that carry our names where it is used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.loop
def test_the_wheel_plans_a_loop_beside_a_folder_named_envs(tmp_path: Path) -> None:
    elsewhere, target = tmp_path / "elsewhere", tmp_path / "site"
    (elsewhere / "envs").mkdir(parents=True)
    (elsewhere / "envs" / "__init__.py").write_text("raise ImportError('a stranger')\n")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    wheel = next(tmp_path.glob("*.whl"))
    install = [
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
    subprocess.run(install, check=True, capture_output=True, timeout=120)
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
