"""`opentau report`: write a run's report again from what its directory holds."""

from __future__ import annotations

from collections.abc import Sequence

from opentau.cli.compose import parser
from opentau.cli.runs_folder import find_run
from opentau.config import locate


def main(argv: Sequence[str]) -> int:
    """Gather and write; works on a running, an interrupted and a finished run."""
    arguments = parser("report", "Write report.html of a run again, finished or not.", takes_options=False)
    arguments.add_argument("run", nargs="?", help="run id; the newest when left out")
    run = find_run(arguments.parse_args(argv).run)
    print(locate("opentau.loop.cycle:report_run")(run))
    return 0
