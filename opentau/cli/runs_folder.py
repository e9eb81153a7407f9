"""Which run a command means: by name, by path, or the newest."""

from __future__ import annotations

from pathlib import Path

from opentau.config import runs_dir
from opentau.errors import RunError, near_matches
from opentau.events import EVENTS_FOLDER


def all_runs() -> list[Path]:
    """Return the run directories, oldest activity first."""
    folders = [path.parent for path in runs_dir().glob(f"*/{EVENTS_FOLDER}")]
    return sorted(folders, key=_last_activity)


def find_run(name: str | None) -> Path:
    """Return the directory of a run; None means the newest. Raises `RunError` with near matches."""
    if name is not None and (Path(name) / EVENTS_FOLDER).is_dir():
        return Path(name)
    runs = all_runs()
    if name is None and runs:
        return runs[-1]
    if name is None:
        raise RunError(f"there is no run in {runs_dir()}; start one with `opentau loop`, or set OPENTAU_RUNS")
    for run in runs:
        if run.name == name:
            return run
    raise RunError(f"there is no run {name!r} in {runs_dir()}.{near_matches(name, [run.name for run in runs])}")


def _last_activity(run: Path) -> float:
    return max((path.stat().st_mtime for path in (run / EVENTS_FOLDER).glob("*.jsonl")), default=0.0)
