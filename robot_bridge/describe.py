"""What an environment offers, read in a process of its own: `python -P -m robot_bridge.describe '{…}'`.

The process that trains stays free of simulators, and a scene that has to be built first is built here once.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from opentau.config import build, locate
from opentau.errors import OpenTauError, StationError
from opentau.protocols import StepEnv


class EnvDescription(msgspec.Struct, frozen=True, kw_only=True):
    """The constants of one task."""

    task_id: str
    prompt: str
    env_id: str
    max_steps: int
    num_initial_states: int
    interface: dict[str, Any]
    """Plain dict of `Interface`."""
    rendering: str
    """OpenGL backend and renderer that make the pixels."""


def describe(
    spec: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]], *, rendering: str, on_line: Callable[[str], None]
) -> list[EnvDescription]:
    """Return one description per task (arguments added to the spec's); `on_line` gets what the process says meanwhile.

    `rendering` is the target of a function whose answer has an `id` that names what makes the pixels. Raises `StationError`
    with the process's last words.
    """
    request = json.dumps({"env": dict(spec), "tasks": [dict(task) for task in tasks], "rendering": rendering})
    command = [sys.executable, "-P", "-m", "robot_bridge.describe", request]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line.rstrip())
            on_line(lines[-1])
        answer = process.stdout.read()
    if process.returncode != 0:
        raise StationError("the environment cannot be made: " + "\n".join(lines[-12:]))
    return msgspec.json.decode(answer, type=list[EnvDescription])


def main() -> int:
    request = json.loads(sys.argv[1])
    _tell_progress(request["env"]["target"])
    descriptions = []
    try:
        for task in request["tasks"]:
            env: StepEnv = build(request["env"], **task)
            descriptions.append(
                EnvDescription(
                    task_id=env.task_id,
                    prompt=env.prompt,
                    env_id=env.env_id,
                    max_steps=env.max_steps,
                    num_initial_states=env.num_initial_states,
                    interface=env.metadata["interface"],
                    rendering=locate(request["rendering"])().id,
                )
            )
            env.close()
    except (OpenTauError, ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2
    sys.stdout.write(msgspec.json.encode(descriptions).decode())
    return 0


def _tell_progress(target: str) -> None:
    """Write what the environment's package logs, such as the steps of building a scene, to stderr."""
    logger = logging.getLogger(target.split(".")[0])
    logger.setLevel(logging.INFO)
    logger.addHandler(logging.StreamHandler())


if __name__ == "__main__":
    sys.exit(main())
