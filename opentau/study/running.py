"""Running a study: every run is an `opentau loop` in a process of its own, cells side by side, runs of a cell in turn."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from opentau.errors import RunError
from opentau.loop.run import STAGES_FOLDER
from opentau.study.gathering import Curves, gather_rows, stage_directories
from opentau.study.plan import RunPlan
from opentau.study.rows import Row, read_rows, write_rows

ROWS_FILE = "rows.json"
CONSOLE_FILE = "console.log"
LOG_TAIL_CHARS = 600
Rows = tuple[Row, ...]
"""Of one run, in the order of its tasks."""


@dataclass(slots=True)
class StudyRun:
    """One sitting of a study."""

    directory: Path
    """Holds the runs and the stages that they share."""
    on_run: Callable[[RunPlan, Rows | None], None]
    """Told of every run that is there or has failed (None), from any thread."""
    kept: Mapping[str, Rows] = field(default_factory=dict)
    """Rows of whole cells from sittings elsewhere, by the names of their runs; they are not run again."""
    is_stopping: threading.Event = field(default_factory=threading.Event)
    _processes: set[subprocess.Popen[bytes]] = field(default_factory=set)

    def run(self, plans: Sequence[RunPlan], *, num_workers: int) -> list[str]:
        """Run what is missing, `num_workers` cells at a time; return what failed, a sentence each.

        An interrupt stops what runs and is raised again; the next sitting resumes them.
        """
        (self.directory / STAGES_FOLDER).mkdir(parents=True, exist_ok=True)
        cells: dict[tuple[tuple[int, ...], int], list[RunPlan]] = {}
        for plan in plans:
            cells.setdefault(plan.cell, []).append(plan)
        with ThreadPoolExecutor(num_workers) as pool:
            futures = [pool.submit(self._run_cell, members) for members in cells.values()]
            try:
                return [failure for future in as_completed(futures) for failure in future.result()]
            except BaseException:
                self.is_stopping.set()
                for process in list(self._processes):
                    process.terminate()
                raise

    def _run_cell(self, plans: Sequence[RunPlan]) -> list[str]:
        """Make the runs of a cell in turn; a failed one does not keep the others from running."""
        curves: dict[str, Curves] = {}
        paid: set[str] = set()
        failures = []
        for plan in plans:
            if self.is_stopping.is_set():
                break
            try:
                rows = self.kept.get(plan.name) or finished_rows(self.directory, plan)
                if rows is None:
                    self._run(plan)
                    rows = self._gather(plan, curves, paid)
                if plan.name not in self.kept:
                    paid.update(stage_directories(self.directory / plan.name).values())
                self.on_run(plan, rows)
            except RunError as error:
                failures.append(str(error))
                self.on_run(plan, None)
        return failures

    def _run(self, plan: RunPlan) -> None:
        run = self.directory / plan.name
        run.mkdir(exist_ok=True)
        shared = run / STAGES_FOLDER
        if not shared.is_symlink():
            shared.symlink_to(Path("..") / STAGES_FOLDER)
        run_id = f"{self.directory.name}/{plan.name}"
        command = [sys.executable, "-P", "-m", "opentau.cli.main", "loop", *plan.overrides, f"run_id={run_id}"]
        environment = {**os.environ, "OPENTAU_RUNS": str(self.directory.parent)}
        with open(run / CONSOLE_FILE, "ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment)
        self._processes.add(process)
        try:
            code = process.wait()
        finally:
            self._processes.discard(process)
        if code and not self.is_stopping.is_set():
            tail = (run / CONSOLE_FILE).read_text(errors="replace")[-LOG_TAIL_CHARS:].strip()
            raise RunError(f"{plan.name} ended with status {code}; its last words: {tail}")

    def _gather(self, plan: RunPlan, curves: dict[str, Curves], paid: Collection[str]) -> Rows:
        if self.is_stopping.is_set():
            raise RunError(f"{plan.name} was stopped; the same command resumes it")
        rows, known = gather_rows(plan, self.directory / plan.name, known_curves=curves, paid=paid)
        curves.update(known)
        write_rows(self.directory / plan.name / ROWS_FILE, rows)
        return rows


def finished_rows(directory: Path, plan: RunPlan) -> Rows | None:
    """Return the rows that are there for exactly these options, None where they have to be run."""
    path = directory / plan.name / ROWS_FILE
    return _rows_of(plan, read_rows(path)) if path.is_file() else None


def kept_rows(rows: Sequence[Row], plans: Sequence[RunPlan]) -> dict[str, Rows]:
    """Return the rows of earlier sittings that stand for plans, by the plans' names.

    Only whole cells count: rows of one cell are compared, so they rest on the same stages.
    """
    found = {plan: _rows_of(plan, rows) for plan in plans}
    broken = {plan.cell for plan, of_plan in found.items() if of_plan is None}
    return {plan.name: of_plan for plan, of_plan in found.items() if of_plan is not None and plan.cell not in broken}


def _rows_of(plan: RunPlan, rows: Sequence[Row]) -> Rows | None:
    """Return the rows of all tasks of a plan, of exactly its options; None where one is missing."""
    known = {
        row.task: row for row in rows if (row.variant, row.seed, row.options_id) == (plan.variant, plan.seed, plan.options_id)
    }
    return tuple(known[task] for task in plan.tasks) if known.keys() >= set(plan.tasks) else None
