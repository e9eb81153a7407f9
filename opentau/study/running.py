"""Running a study: every row is an `opentau loop` in a process of its own, cells side by side, rows of a cell in turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path

from opentau.checkpoint import write_json
from opentau.errors import RunError
from opentau.loop.run import STAGES_FOLDER
from opentau.study.gathering import Curves, gather_row, stage_directories
from opentau.study.plan import RowPlan
from opentau.study.rows import Row, row_from

ROW_FILE = "row.json"
CONSOLE_FILE = "console.log"
LOG_TAIL_CHARS = 600


@dataclass(slots=True)
class StudyRun:
    """One sitting of a study."""

    directory: Path
    """Holds a run per row and the stages that they share."""
    on_row: Callable[[RowPlan, Row | None], None]
    """Told of every row that is there or has failed (None), from any thread."""
    kept: Mapping[str, Row] = field(default_factory=dict)
    """Rows of whole cells from sittings elsewhere, by name; they are not run again."""
    is_stopping: threading.Event = field(default_factory=threading.Event)
    _processes: set[subprocess.Popen[bytes]] = field(default_factory=set)

    def run(self, rows: Sequence[RowPlan], *, num_workers: int) -> list[str]:
        """Run what is missing, `num_workers` cells at a time; return what failed, a sentence each.

        An interrupt stops the rows that run and is raised again; the next sitting resumes them.
        """
        (self.directory / STAGES_FOLDER).mkdir(parents=True, exist_ok=True)
        cells: dict[tuple[int, int], list[RowPlan]] = {}
        for row in rows:
            cells.setdefault(row.cell, []).append(row)
        with ThreadPoolExecutor(num_workers) as pool:
            futures = [pool.submit(self._run_cell, members) for members in cells.values()]
            try:
                return [failure for future in as_completed(futures) for failure in future.result()]
            except BaseException:
                self.is_stopping.set()
                for process in list(self._processes):
                    process.terminate()
                raise

    def _run_cell(self, rows: Sequence[RowPlan]) -> list[str]:
        """Run the rows of a cell in turn; a failed one does not keep the others from running."""
        curves: dict[str, Curves] = {}
        paid: set[str] = set()
        failures = []
        for plan in rows:
            if self.is_stopping.is_set():
                break
            try:
                row = self.kept.get(plan.name) or finished_row(self.directory, plan)
                if row is None:
                    self._run_row(plan)
                    row = self._gather(plan, curves, paid)
                if plan.name not in self.kept:
                    paid.update(stage_directories(self.directory / plan.name).values())
                self.on_row(plan, row)
            except RunError as error:
                failures.append(str(error))
                self.on_row(plan, None)
        return failures

    def _run_row(self, plan: RowPlan) -> None:
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

    def _gather(self, plan: RowPlan, curves: dict[str, Curves], paid: Collection[str]) -> Row:
        if self.is_stopping.is_set():
            raise RunError(f"{plan.name} was stopped; the same command resumes it")
        row, known = gather_row(plan, self.directory / plan.name, known_curves=curves, paid=paid)
        curves.update(known)
        write_json(self.directory / plan.name / ROW_FILE, asdict(row))
        return row


def finished_row(directory: Path, plan: RowPlan) -> Row | None:
    """Return the row that is there for exactly these options, None where it has to be run."""
    path = directory / plan.name / ROW_FILE
    if not path.is_file():
        return None
    row = row_from(json.loads(path.read_text()))
    return row if row.options_id == plan.options_id else None


def kept_rows(rows: Sequence[Row], plans: Sequence[RowPlan]) -> dict[str, Row]:
    """Return the rows of earlier sittings that stand for plans, by the plans' names.

    Only whole cells count: rows of one cell are compared, so they rest on the same stages.
    """
    known = {(row.variant, row.cell, row.options_id): row for row in rows}
    found = {plan: known.get((plan.variant, plan.cell, plan.options_id)) for plan in plans}
    broken = {plan.cell for plan, row in found.items() if row is None}
    return {plan.name: row for plan, row in found.items() if row is not None and plan.cell not in broken}
