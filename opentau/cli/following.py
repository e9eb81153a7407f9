"""What a command is in a process that torchrun started: the first leads, the others silently help with the trainings."""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path

from opentau.config import locate
from opentau.loop.crew import Crew
from opentau.loop.options import LoopOptions
from opentau.loop.run import RunStopped, join_run


def crew_of_command() -> Crew:
    """Return the processes of this command.

    Where there are several, each ends on SIGTERM as on Ctrl-C: torchrun sends it when another one has failed, SLURM to all.
    """
    crew = Crew.of_environment()
    if crew.size > 1:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    return crew


def follow(directory: Path, options: LoopOptions, *, crew: Crew, last_stage: str | None = None) -> int:
    """Go through the run that the first process leads."""
    with suppress(RunStopped), join_run(directory, crew=crew, last_stage=last_stage) as run:
        locate("opentau.loop.cycle:run_cycle")(run, options)
    return 0
