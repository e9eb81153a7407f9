"""`opentau tensorboard`: a run's metrics for TensorBoard, live or afterwards."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from opentau.cli.compose import parser
from opentau.cli.runs_folder import find_run
from opentau.config import locate
from opentau.events import RUN_FAILED, RUN_FINISHED, RUN_STARTED, RUN_STOPPED, EventReader

DESCRIPTION = """Write the training metrics and scores of a run as TensorBoard files, from its event log: of a running, an
interrupted or a finished run. --follow goes on until the run ends.
  opentau tensorboard RUN --follow &  tensorboard --logdir runs/RUN/tensorboard"""
POLL_S = 2.0
ENDS = (RUN_FINISHED, RUN_FAILED, RUN_STOPPED)


def _has_ended(emitted: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the run ended in these events and was not started again after."""
    kinds = [event["kind"] for event in emitted if event["kind"] in (RUN_STARTED, *ENDS)]
    return bool(kinds) and kinds[-1] != RUN_STARTED


def main(argv: Sequence[str]) -> int:
    """Write what there is and, if asked to, what comes."""
    arguments = parser("tensorboard", DESCRIPTION, takes_options=False)
    arguments.add_argument("run", nargs="?", help="run id; the newest when left out")
    arguments.add_argument("--follow", action="store_true", help="go on until the run ends")
    parsed = arguments.parse_args(argv)
    run = find_run(parsed.run)
    reader, count = EventReader(run), 0
    with locate("opentau.loop.tensorboard:TensorBoardSink")(run) as sink:
        while True:
            emitted = reader.read_new()
            count += sink.write(emitted)
            if not parsed.follow or _has_ended(emitted):
                break
            time.sleep(POLL_S)
    console = Console()
    console.print(f"{count} numbers: tensorboard --logdir {sink.directory}", highlight=False, soft_wrap=True)
    return 0
