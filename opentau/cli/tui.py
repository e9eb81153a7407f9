"""`opentau tui`: open the screen on a run, running or finished."""

from __future__ import annotations

import time
from collections.abc import Sequence

from opentau.cli.compose import parser
from opentau.cli.connecting import add_connect, client_of
from opentau.config import locate
from opentau.runfold import fold


def main(argv: Sequence[str]) -> int:
    """Open the screen; closing it changes nothing in the run."""
    arguments = parser("tui", "Watch and steer a run in the terminal; closing the screen changes nothing.", takes_options=False)
    arguments.add_argument("run", nargs="?", help="run id; the newest when left out")
    arguments.add_argument("--plain", action="store_true", help="print the screen's content once and leave")
    add_connect(arguments)
    options = arguments.parse_args(argv)
    with client_of(options) as (client, name):
        if options.plain:
            print(locate("tui.text:render_plain")(fold(client.new_events()), now=time.time()))
        else:
            locate("tui.app:run_app")(client, name)
    return 0
