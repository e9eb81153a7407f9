"""`opentau runs`: list the runs on this machine, and free the space of what they can make again."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from opentau.checkpoint import partial_path
from opentau.cli.compose import parser
from opentau.cli.runs_folder import all_runs, find_run
from opentau.loop.decisions import Decisions
from opentau.loop.run import STAGES_FOLDER, STATE_FILE, WORK_FOLDER, is_running
from opentau.runsnapshot import fold_run
from opentau.runstate import RunSummary


def main(argv: Sequence[str]) -> int:
    """List or prune."""
    arguments = parser("runs", "List the runs on this machine, or prune what they no longer need.", takes_options=False)
    commands = arguments.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="a line per run")
    listing.add_argument("--json", action="store_true", help="one line of JSON")
    prune = commands.add_parser("prune", help="delete stages that no current result uses, and leftovers of interrupted ones")
    prune.add_argument("run", nargs="?", help="run id; every run when left out")
    prune.add_argument("--dry-run", action="store_true", help="say what would go")
    options = arguments.parse_args(argv)
    return _list(as_json=options.json) if options.command == "list" else _prune(options.run, is_dry=options.dry_run)


def _list(*, as_json: bool) -> int:
    runs = all_runs()
    summaries = [fold_run(run) for run in runs]
    if as_json:
        rows = zip(runs, summaries, strict=True)
        print(
            json.dumps(
                [{"run": run.name, "phase": _state(run, s), "bytes": _size(run), "last_event": s.last_t} for run, s in rows]
            )
        )
        return 0
    table = Table("run", "state", "size", "last event")
    for run, summary in zip(runs, summaries, strict=True):
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(summary.last_t))
        table.add_row(run.name, _state(run, summary), f"{_size(run) / 1e6:.0f} MB", when)
    Console().print(table)
    return 0


def _state(run: Path, summary: RunSummary) -> str:
    """Return the phase; a run that no process holds any more was interrupted, whatever its last event says."""
    is_orphan = not summary.phase.is_over and not is_running(run)
    return "interrupted" if is_orphan else str(summary.phase)


def _prune(name: str | None, *, is_dry: bool) -> int:
    freed = 0
    for run in [find_run(name)] if name else all_runs():
        if is_running(run):
            print(f"{run.name}: running, left alone")
            continue
        for folder in superfluous(run):
            freed += _size(folder)
            print(f"{'would delete' if is_dry else 'deleted'} {folder}")
            if not is_dry:
                shutil.rmtree(folder)
    print(f"{freed / 1e6:.0f} MB {'could be' if is_dry else ''} freed")
    return 0


def superfluous(run: Path) -> list[Path]:
    """Return the stage directories that neither a run's state nor a pin names, and scratch of stages that are complete."""
    state = run / STATE_FILE
    stages = json.loads(state.read_text())["stages"] if state.is_file() else {}
    used = {stage["directory"] for stage in stages.values()} | set(Decisions(run).pinned().values())
    directories = sorted((run / STAGES_FOLDER).glob("*/")) if (run / STAGES_FOLDER).is_dir() else []
    unused = [
        path
        for path in directories
        if path.name not in used and path.name not in {partial_path(Path(name)).name for name in used}
    ]
    scratch = [path for path in sorted((run / WORK_FOLDER).glob("*/")) if path.name in used]
    return unused + scratch


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
