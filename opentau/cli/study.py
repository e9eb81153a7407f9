"""`opentau study`: run the variants of a study over its tasks and seeds, and write the page that compares them."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from opentau.cli.compose import compose_config, parser
from opentau.config import runs_dir
from opentau.loop.options import LoopOptions, options_id
from opentau.loop.report_gather import machine_facts
from opentau.study.cost import planned_cpu_s
from opentau.study.page import PageFacts, write_page
from opentau.study.plan import RowPlan, StudyPlan, read_study, study_names
from opentau.study.rows import Row, read_rows, write_rows
from opentau.study.running import StudyRun, finished_row, kept_rows

DESCRIPTION = """Run a study: variants x tasks x seeds of the loop, compared on equal placements with intervals.

A study is a yaml with its question, its hypotheses, its primary comparison, options and seeds, all written down before
the runs. Rows of one task and seed share the stages that do not differ. Stop it at any moment; the same command goes on.
Results: a page (page.md, curves.svg) and the raw rows (rows.json), by default in the study's folder. With --out, whole
cells (task, seed) whose rows are there already are not run again, so that a study can go on in another sitting elsewhere.

studies that come with the package: """
ROWS_FILE = "rows.json"


def main(argv: Sequence[str]) -> int:
    """Run, resume or describe a study."""
    arguments = parser("study", DESCRIPTION + ", ".join(study_names()), takes_options=False)
    arguments.add_argument("study", help="name of a study, or path of a yaml")
    arguments.add_argument("--dry-run", action="store_true", help="print rows and CPU-hours, planned and spent, and stop")
    arguments.add_argument("--workers", type=int, default=None, help="cells side by side (default: the cores there are)")
    arguments.add_argument("--out", type=Path, default=None, help="folder of page and rows (default: the study's folder)")
    parsed = arguments.parse_intermixed_args(argv)
    study = read_study(parsed.study)
    directory = runs_dir().absolute() / f"study-{study.name}"
    rows, options = _compose(study)
    planned_s = planned_cpu_s(options)
    console = Console()
    out = parsed.out or directory
    kept = _kept(console, rows, out / ROWS_FILE)
    if parsed.dry_run:
        _print_plan(console, study, rows, done=_done(rows, kept, directory=directory), planned_s=planned_s)
        return 0
    signal.signal(signal.SIGTERM, _interrupt)
    num_workers = parsed.workers or len(os.sched_getaffinity(0))
    try:
        failures = _run(console, rows, kept, directory=directory, num_workers=num_workers)
    finally:
        _write(study, rows, kept, directory=directory, out=out, planned_s=planned_s, env=options[0].env_name)
        console.print(f"page: {out / 'page.md'}", highlight=False)
    for failure in failures:
        console.print(f"[red]failed[/] {failure}", highlight=False)
    return 1 if failures else 0


def _interrupt(*_: object) -> None:
    """Make a request to end the study as good as Ctrl-C: its rows are stopped with it."""
    raise KeyboardInterrupt


def _compose(study: StudyPlan) -> tuple[list[RowPlan], list[LoopOptions]]:
    """Return the rows with the ids of their options, and those options; a wrong one fails before anything runs."""
    rows, options = [], []
    for row in study.rows():
        config = compose_config("loop", row.overrides)
        options.append(LoopOptions.from_config(config))
        rows.append(dataclasses.replace(row, options_id=options_id(config)))
    return rows, options


def _kept(console: Console, rows: Sequence[RowPlan], path: Path) -> dict[str, Row]:
    """Return the rows of earlier sittings that need not be run again, and say how many have to."""
    known = read_rows(path) if path.is_file() else []
    kept = kept_rows(known, rows)
    if len(known) > len(kept):
        console.print(
            f"{len(known) - len(kept)} of {len(known)} rows in {path} ran with other options or lie in unfinished cells; "
            "they are run again unless this machine still has their runs",
            highlight=False,
        )
    return kept


def _done(rows: Sequence[RowPlan], kept: Mapping[str, Row], *, directory: Path) -> dict[str, Row]:
    """Return the rows that are there, by name."""
    found = {plan.name: kept.get(plan.name) or finished_row(directory, plan) for plan in rows}
    return {name: row for name, row in found.items() if row is not None}


def _run(console: Console, rows: Sequence[RowPlan], kept: Mapping[str, Row], *, directory: Path, num_workers: int) -> list[str]:
    columns = (
        TextColumn("[bold]rows"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    done: dict[str, Row] = {}
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("rows", total=len(rows), note="")

        def on_row(plan: RowPlan, row: Row | None) -> None:
            words = "failed" if row is None else ", ".join(_words(name, row) for name in sorted(row.scores))
            console.print(f"{plan.name:<36} {words}", highlight=False)
            done.update({plan.name: row} if row is not None else {})
            progress.update(bar, advance=1, note=f"{_spent_cpu_s(done.values()) / 3600:.2f} CPU-hours spent")

        return StudyRun(directory=directory, on_row=on_row, kept=kept).run(rows, num_workers=num_workers)


def _words(name: str, row: Row) -> str:
    score = row.scores[name]
    return f"{name} {score.successes}/{score.episodes}"


def _spent_cpu_s(rows: Iterable[Row]) -> float:
    return sum(row.own_cpu_seconds for row in rows)


def _write(
    study: StudyPlan,
    rows: Sequence[RowPlan],
    kept: Mapping[str, Row],
    *,
    directory: Path,
    out: Path,
    planned_s: float,
    env: str,
) -> None:
    done = _done(rows, kept, directory=directory)
    out.mkdir(parents=True, exist_ok=True)
    write_rows(out / ROWS_FILE, list(done.values()))
    facts = PageFacts(
        env=env,
        planned_cpu_s=planned_s,
        spent_cpu_s=_spent_cpu_s(done.values()),
        missing=tuple((plan.variant, plan.task, plan.seed) for plan in rows if plan.name not in done),
        machine=machine_facts(),
    )
    write_page(out, study=study, rows=list(done.values()), facts=facts)


def _print_plan(
    console: Console, study: StudyPlan, rows: Sequence[RowPlan], *, done: Mapping[str, Row], planned_s: float
) -> None:
    table = Table("variant", "options", "rows", "done")
    for variant, options in study.variants.items():
        members = [row for row in rows if row.variant == variant]
        table.add_row(variant, " ".join(options), str(len(members)), str(sum(row.name in done for row in members)))
    console.print(study.question)
    console.print(table)
    spent_s = _spent_cpu_s(done.values())
    console.print(f"planned {planned_s / 3600:.1f} CPU-hours (shared stages once), spent {spent_s / 3600:.1f}")
