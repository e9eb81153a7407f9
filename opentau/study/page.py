"""The page of a study: what the primary comparison found, what was asked, how to repeat it, and every number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from opentau.checkpoint import write_text
from opentau.errors import DataError
from opentau.study import tables
from opentau.study.curves import curves_svg
from opentau.study.pairing import SECONDS_PER_HOUR, Pair, pair_scores, pair_variants
from opentau.study.plan import StudyPlan
from opentau.study.rows import FIRST, Row
from opentau.study.statistics import NUM_DRAWS, SuccessDifference, success_difference

PAGE_FILE, CURVES_FILE = "page.md", "curves.svg"
BOOTSTRAP_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PageFacts:
    """What the page says besides the plan and the rows."""

    env: str
    planned_cpu_s: float
    spent_cpu_s: float
    """Stages that several rows share are counted once."""
    missing: tuple[tuple[str, int, int], ...] = ()
    """(variant, task, seed) of the rows that have not run."""
    machine: Mapping[str, str] = field(default_factory=dict)
    """Facts such as processor and versions."""


def write_page(directory: Path, *, study: StudyPlan, rows: Sequence[Row], facts: PageFacts) -> Path:
    """Write page.md and, where rows hold curves, curves.svg into the directory; equal arguments give equal bytes."""
    order = list(study.variants)
    for row in rows:
        if row.variant not in study.variants:
            raise DataError(f"run {row.run} is of the variant {row.variant!r}, which study {study.name} does not have")
    rows = sorted(rows, key=lambda row: (order.index(row.variant), row.cell))
    curves = curves_svg(rows, variants=order)
    write_text(directory / PAGE_FILE, page_text(study, rows=rows, facts=facts, has_curves=bool(curves)))
    if curves:
        write_text(directory / CURVES_FILE, curves)
    else:
        (directory / CURVES_FILE).unlink(missing_ok=True)
    return directory / PAGE_FILE


def page_text(study: StudyPlan, *, rows: Sequence[Row], facts: PageFacts, has_curves: bool) -> str:
    """Return the page; `rows` in its order."""
    primary, *others = _comparisons(study)
    compared = {names: pairs for names in (primary, *others) if (pairs := _compared(rows, *names))}
    differences = {names: success_difference(pairs, seed=BOOTSTRAP_SEED) for names, pairs in compared.items()}
    gains = {variant: pairs for variant in study.variants if (pairs := pair_scores(rows, variant=variant))}
    sections = [
        f"# Study {study.name}",
        headline(primary, difference=differences.get(primary), num_rows=len(rows), num_missing=len(facts.missing)),
        *_plan(study),
        *_reproduction(study, rows, facts),
        *_section("Missing rows", table=_missing_table(study, facts)),
        *_section("Runs", table=tables.rows_table(rows), lead=RUNS_LEAD),
        *_section("Gains", table=tables.gains_table(gains, seed=BOOTSTRAP_SEED), lead=GAINS_LEAD),
        *_section("Comparisons", table=_comparisons_table(compared, differences), lead=COMPARISONS_LEAD),
        *_section("Episodes", table=tables.efficiency_table(rows, gains, seed=BOOTSTRAP_SEED), lead=EFFICIENCY_LEAD),
        *_section("Throughput", table=tables.throughput_table(gains, seed=BOOTSTRAP_SEED), lead=THROUGHPUT_LEAD),
        *_section("Steps to success", table=tables.steps_table(gains, seed=BOOTSTRAP_SEED), lead=STEPS_LEAD),
        *_section(
            "Indicators",
            table=tables.indicators_table(rows, variants=study.variants, seed=BOOTSTRAP_SEED),
            lead=INDICATORS_LEAD,
        ),
        *_section("Facts", table=tables.facts_table(rows, variants=list(study.variants)), lead=FACTS_LEAD),
        *_section("Curves", table=f"![Curves of every variant]({CURVES_FILE})" if has_curves else "", lead=CURVES_LEAD),
    ]
    return "\n\n".join(sections) + "\n"


RUNS_LEAD = "Successes of episodes, with intervals in percent. Both policies of a run met the same placements."
GAINS_LEAD = (
    "The final policy minus iteration 0, paired by episode, mean over cells (task, seed), every cell weighing the same. The "
    f"bootstrap interval ({NUM_DRAWS:,} draws) resamples episodes within each cell and speaks of these cells; the t interval "
    "takes the cells for a sample and speaks of further ones."
)
COMPARISONS_LEAD = (
    "Final policy minus the control's, on the cells that both have, paired by episode. The sign-flip test is two-sided, with "
    "cells as clusters."
)
EFFICIENCY_LEAD = (
    "How many episodes a policy played to learn from, mean over cells, and how many of them a point of gain took; policies of "
    "several tasks played them on all of these together."
)
THROUGHPUT_LEAD = "Successes per simulated hour, mean over cells; a failure is charged the longest episode."
STEPS_LEAD = "Median control steps on the episodes that iteration 0 and the final policy both solve, all cells together."
INDICATORS_LEAD = "The final policy minus the same policy served with another indicator, paired by episode."
FACTS_LEAD = "Means over cells."
CURVES_LEAD = "Means over cells, at the updates that all cells of a variant have."


def headline(primary: tuple[str, str], *, difference: SuccessDifference | None, num_rows: int, num_missing: int) -> str:
    """Return the first sentence: what the primary comparison found, or how much of the study is missing."""
    if not num_missing:
        return f"**{_finding(primary, difference)}**"
    text = f"**Not finished: {num_missing} of {num_rows + num_missing} rows are missing.**"
    variant, control = (_name(name) for name in primary)
    if difference is None:
        return f"{text} No cell has {variant} and {control} yet."
    return f"{text} So far {variant} minus {control} is {tables.points(difference.estimate)} points ({_interval(difference)})."


def _finding(primary: tuple[str, str], difference: SuccessDifference | None) -> str:
    """Return a verdict by the t interval; by the bootstrap's where there is one cell only."""
    variant, control = (_name(name) for name in primary)
    if difference is None:
        return f"No cell has both {variant} and {control}, so the primary comparison cannot be made."
    deciding, interval = difference.student or difference.bootstrap, _interval(difference)
    if deciding.low > 0:
        return f"{variant} beats {control} by {tables.points(difference.estimate, is_signed=False)} points ({interval})."
    worse = " and is worse" if deciding.high < 0 else ""
    text = f"{variant} does not beat {control}{worse}: {tables.points(difference.estimate)} points ({interval})"
    if difference.bootstrap.low > 0:
        return f"{text}; on these cells alone it does (95 % bootstrap interval {tables.interval_points(difference.bootstrap)})."
    return f"{text}."


def _interval(difference: SuccessDifference) -> str:
    if difference.student is None:
        return f"95 % bootstrap interval {tables.interval_points(difference.bootstrap)}, 1 cell"
    return f"95 % t interval {tables.interval_points(difference.student)}, {difference.num_cells} cells"


def _name(variant: str) -> str:
    return "its iteration 0" if variant == FIRST else f"`{variant}`"


def _comparisons(study: StudyPlan) -> list[tuple[str, str]]:
    """Return (variant, control), the primary one first; a study that compares nothing asks for its first variant's gain."""
    named = [(variant, control) for variant, control in study.comparisons]
    return named or [(next(iter(study.variants)), FIRST)]


def _compared(rows: Sequence[Row], variant: str, control: str) -> tuple[Pair, ...]:
    """Return the pairs of two variants' final policies, or with the control 'first' of a variant and its iteration 0."""
    if control == FIRST:
        return pair_scores(rows, variant=variant)
    return pair_variants(rows, candidate=variant, baseline=control)


def _plan(study: StudyPlan) -> list[str]:
    return [
        "## Question",
        study.question,
        "Hypotheses, written before the runs:",
        "\n".join(f"{number}. {hypothesis}" for number, hypothesis in enumerate(study.hypotheses, start=1)),
        f"Primary measure: {study.primary}",
        f"Options of every run: {_options(study.base)}; of the variants besides:",
        "\n".join(f"- `{variant}`: {_options(options)}" for variant, options in study.variants.items()),
    ]


def _options(options: Sequence[str]) -> str:
    return " ".join(f"`{option}`" for option in options) or "none"


def _reproduction(study: StudyPlan, rows: Sequence[Row], facts: PageFacts) -> list[str]:
    planned_h, spent_h = facts.planned_cpu_s / SECONDS_PER_HOUR, facts.spent_cpu_s / SECONDS_PER_HOUR
    listed = {
        "environment": facts.env,
        "tasks": ", ".join(_together(tasks) for tasks in study.tasks),
        "seeds": ", ".join(map(str, study.seeds)),
        "CPU-hours": f"{planned_h:.2f} planned, {spent_h:.2f} spent",
        **dict(sorted(facts.machine.items())),
    }
    return [
        "## How to reproduce",
        f"```\nopentau study {study.name}\n```",
        "\n".join(f"- {name}: {fact}" for name, fact in listed.items()),
        *([specs] if (specs := tables.specs_table(rows)) else []),
    ]


def _together(tasks: Sequence[int]) -> str:
    return str(tasks[0]) if len(tasks) == 1 else f"{', '.join(map(str, tasks))} with one policy"


def _section(title: str, *, table: str, lead: str = "") -> list[str]:
    """Return a section's blocks; none without a table."""
    return [block for block in (f"## {title}", lead, table) if block] if table else []


def _missing_table(study: StudyPlan, facts: PageFacts) -> str:
    order = list(study.variants)
    missing = sorted(facts.missing, key=lambda row: (order.index(row[0]), row[1:]))
    by_task: dict[tuple[str, int], list[str]] = {}
    for variant, task, seed in missing:
        by_task.setdefault((variant, task), []).append(str(seed))
    lines = [(f"`{variant}`", str(task), ", ".join(seeds)) for (variant, task), seeds in by_task.items()]
    return tables.table(("variant", "task", "seeds"), lines)


def _comparisons_table(
    compared: Mapping[tuple[str, str], Sequence[Pair]], differences: Mapping[tuple[str, str], SuccessDifference]
) -> str:
    lines = []
    for (variant, control), difference in differences.items():
        episodes = tables.span(pair.num_episodes for pair in compared[variant, control])
        counts = (str(difference.num_negative), str(difference.num_cells), episodes)
        names = (f"`{variant}`", _name(control))
        lines.append((*names, *tables.difference_cells(difference), tables.p_value(difference.p_value), *counts))
    columns = ("variant", "minus", *tables.DIFFERENCE_COLUMNS, "sign-flip p", "cells negative", "cells", "episodes a cell")
    return tables.table(columns, lines)
