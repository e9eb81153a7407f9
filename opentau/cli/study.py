"""`opentau study`: run the variants of a study over its tasks and seeds, and write the page that compares them."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from opentau.cli.compose import compose_config, parser
from opentau.config import runs_dir
from opentau.loop.options import LoopOptions
from opentau.loop.report_gather import machine_facts
from opentau.study.cost import planned_cpu_s
from opentau.study.page import PageFacts, write_page
from opentau.study.plan import RowPlan, StudyPlan, read_study, study_names
from opentau.study.rows import Row, write_rows
from opentau.study.running import StudyRun, finished_row, spent_cpu_s
from opentau.types import content_hash

DESCRIPTION = """Run a study: variants x tasks x seeds of the loop, compared on equal placements with intervals.

A study is a yaml with its question, its hypotheses, its primary comparison, options and seeds, all written down before
the runs. Rows of one task and seed share the stages that do not differ. Stop it at any moment; the same command goes on.
Results: a page (page.md, curves.svg) and the raw rows (rows.json), by default in the study's folder.

studies that come with the package: """
ROWS_FILE = "rows.json"


def main(argv: Sequence[str]) -> int:
    """Run, resume or describe a study."""
    arguments = parser("study", DESCRIPTION + ", ".join(study_names()), takes_options=False)
    arguments.add_argument("study", help="name of a study, or path of a yaml")
    arguments.add_argument("--dry-run", action="store_true", help="print rows and CPU-hours, planned and spent, and stop")
    arguments.add_argument("--workers", type=int, default=None, help="cells side by side (default: the cores there are)")
    arguments.add_argument("--out", type=Path, default=None, help="folder of page and rows (default: the study's folder)")
    parsed = arguments.parse_args(argv)
    study = read_study(parsed.study)
    directory = runs_dir().absolute() / f"study-{study.name}"
    rows, options = _compose(study)
    planned_s = planned_cpu_s(options)
    console = Console()
    if parsed.dry_run:
        _print_plan(console, study, rows, directory=directory, planned_s=planned_s)
        return 0
    signal.signal(signal.SIGTERM, _interrupt)
    failures = _run(console, rows, directory=directory, num_workers=parsed.workers or len(os.sched_getaffinity(0)))
    out = parsed.out or directory
    _write(study, rows, directory=directory, out=out, planned_s=planned_s, env=options[0].env_name)
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
        rows.append(dataclasses.replace(row, options_id=content_hash(config)))
    return rows, options


def _run(console: Console, rows: Sequence[RowPlan], *, directory: Path, num_workers: int) -> list[str]:
    columns = (
        TextColumn("[bold]rows"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("rows", total=len(rows), note="")

        def on_row(plan: RowPlan, row: Row | None) -> None:
            words = "failed" if row is None else ", ".join(_words(name, row) for name in sorted(row.scores))
            console.print(f"{plan.name:<36} {words}", highlight=False)
            progress.update(bar, advance=1, note=f"{spent_cpu_s(directory) / 3600:.2f} CPU-hours spent")

        return StudyRun(directory=directory, on_row=on_row).run(rows, num_workers=num_workers)


def _words(name: str, row: Row) -> str:
    score = row.scores[name]
    return f"{name} {score.successes}/{score.episodes}"


def _write(study: StudyPlan, rows: Sequence[RowPlan], *, directory: Path, out: Path, planned_s: float, env: str) -> None:
    found = [(plan, finished_row(directory, plan)) for plan in rows]
    done = [row for _, row in found if row is not None]
    out.mkdir(parents=True, exist_ok=True)
    write_rows(out / ROWS_FILE, done)
    facts = PageFacts(
        env=env,
        planned_cpu_s=planned_s,
        spent_cpu_s=spent_cpu_s(directory),
        missing=tuple((plan.variant, plan.task, plan.seed) for plan, row in found if row is None),
        machine=machine_facts(),
    )
    write_page(out, study=study, rows=done, facts=facts)


def _print_plan(console: Console, study: StudyPlan, rows: Sequence[RowPlan], *, directory: Path, planned_s: float) -> None:
    table = Table("variant", "options", "rows", "done")
    for variant, options in study.variants.items():
        members = [row for row in rows if row.variant == variant]
        done = sum(finished_row(directory, row) is not None for row in members)
        table.add_row(variant, " ".join(options), str(len(members)), str(done))
    console.print(study.question)
    console.print(table)
    spent_s = spent_cpu_s(directory)
    console.print(f"planned {planned_s / 3600:.1f} CPU-hours (shared stages once), spent {spent_s / 3600:.1f}")
