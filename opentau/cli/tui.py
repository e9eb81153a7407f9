"""`opentau tui`: open the screens on a run, running or finished, here or elsewhere; or print one of them."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from opentau.cli.compose import parser
from opentau.cli.connecting import add_connect, client_of
from opentau.config import locate
from opentau.control import LocalRunClient, RunClient
from opentau.errors import OptionError
from opentau.runfiles import Live, RunFiles
from opentau.runsnapshot import RunFollower
from robot_bridge.viewing.client import RemoteRunClient

SCREENS = (
    *("loop", "success", "value", "stations", "training", "checkpoints"),
    *("episodes", "operator", "log", "differences"),
)
DESCRIPTION = """Watch and steer a run in the terminal; closing the screen changes nothing in the run. Number keys switch
between screens, ? shows every key with the command that does the same. With --plain a screen is printed once, with --json
everything that the screens rest on; --replay plays a recorded run again, with its pauses cut short; --svg draws pictures."""


def main(argv: Sequence[str]) -> int:
    """Open the screens, or print one."""
    arguments = parser("tui", DESCRIPTION, takes_options=False)
    arguments.add_argument("run", nargs="?", help="run id; the newest when left out")
    arguments.add_argument("--screen", choices=SCREENS, help="the screen to begin with, to print or to draw")
    arguments.add_argument("--plain", action="store_true", help="print the screen's content once and leave")
    arguments.add_argument("--json", action="store_true", help="print what all screens rest on, as one line")
    arguments.add_argument("--level", choices=("info", "warning", "error"), default="info", help="--plain: of the log")
    arguments.add_argument("--search", metavar="TEXT", default="", help="--plain: log lines that contain it")
    arguments.add_argument("--replay", action="store_true", help="play a recorded run again; arrows seek, < and > change speed")
    arguments.add_argument("--at", metavar="SHARE", type=float, default=0.0, help="--replay: where to begin, 0 to 1")
    arguments.add_argument("--speed", metavar="X", type=float, default=10.0, help="--replay: times as fast as it was")
    arguments.add_argument("--theme", choices=("dark", "light"), help="colours; what the terminal says of itself by default")
    arguments.add_argument("--ascii", action="store_true", help="draw without Unicode, as in terminals that have none")
    arguments.add_argument(
        "--svg", metavar="FOLDER", type=Path, help="draw every screen (or --screen) there, <screen>.svg each"
    )
    arguments.add_argument("--size", metavar="COLUMNSxROWS", default="120x40", help="--svg: of the screens; 120x40")
    arguments.add_argument("--serve", metavar="PORT", type=int, help="show the screens in a browser, at http://127.0.0.1:PORT")
    add_connect(arguments)
    options = arguments.parse_args(argv)
    if options.serve is not None:
        _serve(argv, options)
        return 0
    with client_of(options) as (client, name):
        run_dir = client.run_dir if isinstance(client, LocalRunClient) else None
        if options.plain or options.json:
            _print(client, run_dir, options)
        else:
            _open(client, name, run_dir, options)
    return 0


def _serve(argv: Sequence[str], options: argparse.Namespace) -> None:
    if options.plain or options.json or options.svg is not None:
        raise OptionError("--serve shows the screens in a browser; it does not go with --plain, --json or --svg")
    with client_of(options):
        pass  # a run that cannot be opened is told here, not in the browser
    others = arguments_without(argv, "--serve")
    locate("opentau.cli.tui_serving:serve")(others, port=options.serve)


def arguments_without(argv: Sequence[str], name: str) -> list[str]:
    """Return the arguments without an option and its value."""
    kept, is_value = list[str](), False
    for word in argv:
        if not is_value and word != name and not word.startswith(f"{name}="):
            kept.append(word)
        is_value = word == name and not is_value
    return kept


def _print(client: RunClient, run_dir: Path | None, options: argparse.Namespace) -> None:
    summary = RunFollower(client).catch_up()
    if options.json:
        print(locate("tui.text.plain:to_json")(summary))
        return
    text = locate("tui.text.plain:render_plain")(
        summary,
        now=time.time(),
        screen=options.screen or "loop",
        files=_files(run_dir),
        level=options.level,
        search=options.search,
    )
    print(locate("tui.glyphs:in_ascii")(text) if options.ascii else text)


def _open(client: RunClient, name: str, run_dir: Path | None, options: argparse.Namespace) -> None:
    if options.replay and run_dir is None:
        raise OptionError("--replay reads a run's event files; it does not go with --connect")
    if not 0 <= options.at <= 1:
        raise OptionError(f"--at is {options.at:g}; it is a share of the run, 0 to 1")
    if options.speed <= 0:
        raise OptionError(f"--speed is {options.speed:g}; it must be above 0")
    themes = {"dark": "opentau", "light": "opentau-light"}
    shown = {
        "files": _files(run_dir),
        "look": _look_of(client),
        "view": options.screen or "loop",
        "theme": themes.get(options.theme),
        "is_ascii": True if options.ascii else None,
    }
    if options.svg is not None:
        # A clock that stands still, so that pictures of a replay come to rest where they are asked for.
        app = locate("tui.app:LoopApp")(client, name, **shown, replay=(options.at, 0.0) if options.replay else None)
        views = (options.screen,) if options.screen else SCREENS
        for path in locate("tui.exporting:export_screens")(app, views, options.svg, size=_size(options.size)):
            print(path)
        return
    locate("tui.app:run_app")(client, name, **shown, replay=(options.at, options.speed) if options.replay else None)


def _size(text: str) -> tuple[int, int]:
    """Return columns and rows; raises `OptionError` for what is none, or no terminal that anybody has."""
    columns, _, rows = text.partition("x")
    if not (columns.isdigit() and rows.isdigit() and 40 <= int(columns) <= 400 and 10 <= int(rows) <= 200):
        raise OptionError(f"--size is {text!r}; it is COLUMNSxROWS, 40 to 400 and 10 to 200, for example 120x40")
    return int(columns), int(rows)


def _look_of(client: RunClient) -> Callable[[str], Live | None] | None:
    """Return what shows stations of a run elsewhere; here its files do."""
    if not isinstance(client, RemoteRunClient):
        return None

    def look(station: str) -> Live | None:
        seen = client.look(station)
        return Live(episode_id=seen[0], tick=seen[1], pictures=seen[2], state=seen[3]) if seen is not None else None

    return look


def _files(run_dir: Path | None) -> RunFiles | None:
    return locate("opentau.cli.run_files:LocalRunFiles")(run_dir) if run_dir is not None else None
