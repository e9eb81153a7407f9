"""Everything works with the system's OpenGL hidden: libraries bind-mounted away in a mount namespace."""

from __future__ import annotations

import glob
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from envs.opengl import WHEEL_FOLDER

ROOT = Path(__file__).resolve().parents[3]
WHEEL_LIBRARY = f"{sysconfig.get_paths()['platlib']}/{WHEEL_FOLDER}/libOSMesa*"
SYSTEM_LIBRARIES = [
    f"{folder}/lib{name}*" for folder in ("/lib", "/usr/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib64") for name in
    ("EGL", "GL.", "GLX", "GLdispatch", "OpenGL", "OSMesa", "GLES")
]  # fmt: skip

pytestmark = pytest.mark.faults


def _run_hidden(program: str, cache: Path, *, patterns: list[str], **environment: str) -> subprocess.CompletedProcess:
    """Run Python code where the libraries are /dev/null; skips the test where mounting is not permitted."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("`unshare -m` is not permitted here, so the system's OpenGL cannot be hidden")
    files = sorted({os.path.realpath(path) for pattern in patterns for path in glob.glob(pattern)})
    script = 'while [ "$1" != -- ]; do mount --bind /dev/null "$1" || exit 99; shift; done; shift; exec "$@"'
    command = ["unshare", "-m", "sh", "-c", script, "sh", *files, "--", sys.executable, "-c", program]
    variables = {name: value for name, value in os.environ.items() if name != "MUJOCO_GL"}
    run = subprocess.run(
        command,
        cwd=ROOT,
        env=variables | {"OPENTAU_CACHE": str(cache)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode == 99:
        pytest.skip("bind mounts are not permitted here, so the system's OpenGL cannot be hidden")
    return run


def test_the_wheel_is_chosen_and_says_what_was_tried_before_it(tmp_path):
    program = "from envs.rendering import describe_backend; d = describe_backend(); print(d.name); print(d.reason)"
    run = _run_hidden(program, tmp_path, patterns=SYSTEM_LIBRARIES)
    assert run.returncode == 0, run.stderr
    name, reason = run.stdout.splitlines()
    assert name == "osmesa-wheel"
    assert "libEGL.so.1" in reason
    assert "libOSMesa.so.8" in reason


def test_a_mujoco_gl_that_cannot_be_loaded_does_not_keep_mujoco_from_loading(tmp_path):
    program = "import envs, mujoco, os; print(os.environ['MUJOCO_GL'])"
    run = _run_hidden(program, tmp_path, patterns=SYSTEM_LIBRARIES, MUJOCO_GL="egl")
    assert (run.returncode, run.stdout.strip()) == (0, "disable"), run.stderr


def test_nothing_usable_is_an_error_that_names_the_fix(tmp_path):
    program = "from envs.rendering import describe_backend; describe_backend()"
    run = _run_hidden(program, tmp_path, patterns=[*SYSTEM_LIBRARIES, WHEEL_LIBRARY])
    assert run.returncode == 1
    assert "RuntimeError: no OpenGL works for rendering (egl: " in run.stderr
    assert "Install the wheel lavavu-osmesa" in run.stderr


@pytest.mark.libero
def test_a_scene_is_built_and_both_steppings_draw_it(tmp_path):
    program = (
        "from envs.libero.environment import LiberoEnv\n"
        "for stepping in ('fast', 'exact'):\n"
        "    env = LiberoEnv(stepping=stepping, image_size=32)\n"
        "    observation, _ = env.reset(seed=0)\n"
        "    print(stepping, int(observation['images']['agentview'].std()), 'osmesa-wheel' in env.env_id or env.env_id)\n"
        "    env.close()\n"
    )
    run = _run_hidden(program, tmp_path, patterns=SYSTEM_LIBRARIES)
    assert run.returncode == 0, run.stderr
    drawn = {line.split()[0]: int(line.split()[1]) for line in run.stdout.splitlines()}
    assert sorted(drawn) == ["exact", "fast"]
    assert min(drawn.values()) > 10
