"""`opentau status`: where a run stands, from its events."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from opentau.cli.compose import parser
from opentau.cli.connecting import add_connect, client_of
from opentau.config import locate
from opentau.runsnapshot import RunFollower


def main(argv: Sequence[str]) -> int:
    """Print a run's stages and scores; with --json the scores alone, in one line."""
    arguments = parser("status", "Show where a run stands: stages, scores with intervals, verdicts.", takes_options=False)
    arguments.add_argument("run", nargs="?", help="run id; the newest when left out")
    arguments.add_argument("--json", action="store_true", help="one line: {iterations: […], final: […]}")
    add_connect(arguments)
    options = arguments.parse_args(argv)
    with client_of(options) as (client, _):
        summary = RunFollower(client).catch_up()
    if options.json:
        print(json.dumps(summary.to_status()))
        return 0
    print(locate("tui.text.plain:render_plain")(summary, now=time.time()))
    return 0
