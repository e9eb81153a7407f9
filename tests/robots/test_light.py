"""The arm's computer: what its commands load."""

from __future__ import annotations

import subprocess
import sys


def test_the_robot_commands_need_no_more_than_the_base_wheel_and_the_extra_robot():
    code = (
        "import importlib, sys\n"
        "for name in ('torch', 'mujoco', 'huggingface_hub', 'tokenizers', 'scipy', 'gymnasium'): sys.modules[name] = None\n"
        "for name in ('find', 'setup', 'calibrate', 'check', 'record'): importlib.import_module(f'opentau.cli.robot_{name}')\n"
        "assert not {'serial', 'scservo_sdk'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
