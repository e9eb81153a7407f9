"""What an environment offers, read in a process of its own: `python -P -m robot_bridge.describe '{…}'`.

The process that trains stays free of simulators, a scene that has to be built first is built here once, and an environment with
a Python of its own is first met here.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from opentau.config import build, check_args, locate
from opentau.errors import OpenTauError, StationError
from opentau.protocols import DrawingEnv, StepEnv
from robot_bridge.interpreters import environment_of, module_command, require_usable


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


class DescriptionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of the process."""

    env: dict[str, Any]
    """Spec of the environment."""
    tasks: list[dict[str, Any]]
    """Arguments that are added to it, task by task."""
    rendering: str
    """Target of a function whose answer has an `id` that names what makes the pixels, where the environment does not say so."""
    plugins: list[tuple[dict[str, Any], tuple[str, ...]]] = []
    """Specs whose arguments are checked there, each with what else its target is given."""


def describe(request: DescriptionRequest, *, interpreter: str = "", on_line: Callable[[str], None]) -> list[EnvDescription]:
    """Return one description per task; `on_line` gets what the process says meanwhile.

    `interpreter`: the Python that has the environment's packages; '' is this one. Raises `OptionError` for one that cannot be
    used, and `StationError` with the process's last words.
    """
    if interpreter:
        require_usable(interpreter)
    command = module_command(interpreter, "robot_bridge.describe", [msgspec.json.encode(request).decode()])
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment_of(interpreter)
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line.rstrip())
            on_line(lines[-1])
        answer = process.stdout.read()
    if process.returncode != 0:
        where = f" under {interpreter}" if interpreter else ""
        raise StationError(f"the environment cannot be made{where}: " + "\n".join(lines[-12:]))
    return msgspec.json.decode(answer.splitlines()[-1], type=list[EnvDescription])


def main() -> int:
    request = msgspec.json.decode(sys.argv[1], type=DescriptionRequest)
    _tell_progress(request.env["target"])
    descriptions = []
    try:
        for spec, extra in request.plugins:
            check_args(spec, *extra)
        for task in request.tasks:
            env: StepEnv = build(request.env, **task)
            descriptions.append(
                EnvDescription(
                    task_id=env.task_id,
                    prompt=env.prompt,
                    env_id=env.env_id,
                    max_steps=env.max_steps,
                    num_initial_states=env.num_initial_states,
                    interface=env.metadata["interface"],
                    rendering=env.rendering if isinstance(env, DrawingEnv) else locate(request.rendering)().id,
                )
            )
            env.close()
    except (OpenTauError, ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2
    sys.stdout.write("\n" + msgspec.json.encode(descriptions).decode())  # a line of its own, whatever the environment prints
    return 0


def _tell_progress(target: str) -> None:
    """Write what the environment's package logs, such as the steps of building a scene, to stderr."""
    logger = logging.getLogger(target.split(".")[0])
    logger.setLevel(logging.INFO)
    logger.addHandler(logging.StreamHandler())


if __name__ == "__main__":
    sys.exit(main())
