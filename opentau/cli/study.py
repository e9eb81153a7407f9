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
from opentau.study.plan import RunPlan, StudyPlan, read_study, study_names
from opentau.study.rows import read_rows, write_rows
from opentau.study.running import Rows, StudyRun, finished_rows, kept_rows

DESCRIPTION = """Run a study: variants x tasks x seeds of the loop, compared on equal placements with intervals.

A study is a yaml with its question, its hypotheses, its primary comparison, options and seeds, all written down before
the runs. A task in a list of tasks, [[0, 1], 3], shares its policy with them.
Runs of the same tasks and seed share the stages that do not differ. Stop it at any moment; the same command goes on.
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
    plans, options = _compose(study)
    planned_s = planned_cpu_s(options)
    console = Console()
    out = parsed.out or directory
    kept = _kept(console, plans, out / ROWS_FILE)
    if parsed.dry_run:
        _print_plan(console, study, plans, done=_done(plans, kept, directory=directory), planned_s=planned_s)
        return 0
    signal.signal(signal.SIGTERM, _interrupt)
    num_workers = parsed.workers or len(os.sched_getaffinity(0))
    try:
        failures = _run(console, plans, kept, directory=directory, num_workers=num_workers)
    finally:
        _write(study, plans, kept, directory=directory, out=out, planned_s=planned_s, env=options[0].env_name)
        console.print(f"page: {out / 'page.md'}", highlight=False)
    for failure in failures:
        console.print(f"[red]failed[/] {failure}", highlight=False)
    return 1 if failures else 0


def _interrupt(*_: object) -> None:
    """Make a request to end the study as good as Ctrl-C: its rows are stopped with it."""
    raise KeyboardInterrupt


def _compose(study: StudyPlan) -> tuple[list[RunPlan], list[LoopOptions]]:
    """Return the runs with the ids of their options, and those options; a wrong one fails before anything runs."""
    plans, options = [], []
    for plan in study.runs():
        config = compose_config("loop", plan.overrides)
        options.append(LoopOptions.from_config(config))
        plans.append(dataclasses.replace(plan, options_id=options_id(config)))
    return plans, options


def _kept(console: Console, plans: Sequence[RunPlan], path: Path) -> dict[str, Rows]:
    """Return the rows of earlier sittings that need not be run again, and say how many have to."""
    known = read_rows(path) if path.is_file() else []
    kept = kept_rows(known, plans)
    if num_left := len(known) - sum(map(len, kept.values())):
        console.print(
            f"{num_left} of {len(known)} rows in {path} ran with other options or lie in unfinished cells; "
            "they are run again unless this machine still has their runs",
            highlight=False,
        )
    return kept


def _done(plans: Sequence[RunPlan], kept: Mapping[str, Rows], *, directory: Path) -> dict[str, Rows]:
    """Return the rows that are there, by the names of their runs."""
    found = {plan.name: kept.get(plan.name) or finished_rows(directory, plan) for plan in plans}
    return {name: rows for name, rows in found.items() if rows is not None}


def _run(
    console: Console, plans: Sequence[RunPlan], kept: Mapping[str, Rows], *, directory: Path, num_workers: int
) -> list[str]:
    columns = (
        TextColumn("[bold]runs"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    done: dict[str, Rows] = {}
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("runs", total=len(plans), note="")

        def on_run(plan: RunPlan, rows: Rows | None) -> None:
            words = "failed" if rows is None else ", ".join(_words(name, rows) for name in sorted(rows[0].scores))
            console.print(f"{plan.name:<36} {words}", highlight=False)
            done.update({plan.name: rows} if rows is not None else {})
            progress.update(bar, advance=1, note=f"{_spent_cpu_s(done.values()) / 3600:.2f} CPU-hours spent")

        return StudyRun(directory=directory, on_run=on_run, kept=kept).run(plans, num_workers=num_workers)


def _words(name: str, rows: Rows) -> str:
    scores = [row.scores[name] for row in rows]
    return f"{name} {sum(score.successes for score in scores)}/{sum(score.episodes for score in scores)}"


def _spent_cpu_s(runs: Iterable[Rows]) -> float:
    return sum(row.own_cpu_seconds for rows in runs for row in rows)


def _write(
    study: StudyPlan,
    plans: Sequence[RunPlan],
    kept: Mapping[str, Rows],
    *,
    directory: Path,
    out: Path,
    planned_s: float,
    env: str,
) -> None:
    done = _done(plans, kept, directory=directory)
    rows = [row for of_run in done.values() for row in of_run]
    out.mkdir(parents=True, exist_ok=True)
    write_rows(out / ROWS_FILE, rows)
    facts = PageFacts(
        env=env,
        planned_cpu_s=planned_s,
        spent_cpu_s=_spent_cpu_s(done.values()),
        missing=tuple((plan.variant, task, plan.seed) for plan in plans if plan.name not in done for task in plan.tasks),
        machine=machine_facts(),
    )
    write_page(out, study=study, rows=rows, facts=facts)


def _print_plan(
    console: Console, study: StudyPlan, plans: Sequence[RunPlan], *, done: Mapping[str, Rows], planned_s: float
) -> None:
    table = Table("variant", "options", "runs", "done")
    for variant, options in study.variants.items():
        members = [plan for plan in plans if plan.variant == variant]
        table.add_row(variant, " ".join(options), str(len(members)), str(sum(plan.name in done for plan in members)))
    console.print(study.question)
    console.print(table)
    spent_s = _spent_cpu_s(done.values())
    console.print(f"planned {planned_s / 3600:.1f} CPU-hours (shared stages once), spent {spent_s / 3600:.1f}")
