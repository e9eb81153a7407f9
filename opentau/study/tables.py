"""Numbers as text, and the Markdown tables of a study's page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from opentau.intervals import wilson_interval
from opentau.study.pairing import SECONDS_PER_HOUR, Pair, pair_scores
from opentau.study.rows import FINAL, FIRST, PolicyScore, Row
from opentau.study.statistics import Interval, SuccessDifference, steps_to_success, success_difference, throughput_ratio

NONE = "—"
DIFFERENCE_COLUMNS = ("difference, points", "bootstrap 95 %", "t 95 %")
SMALLEST_P_VALUE = 1e-4
"""Smaller ones are written as below it."""


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table whose columns also line up as plain text; empty without rows."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    if not cells:
        return ""
    widths = [max(len(row[i]) for row in [columns, *cells]) for i in range(len(columns))]
    lines = [columns, ["-" * width for width in widths], *cells]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def points(share: float, *, is_signed: bool = True) -> str:
    """Return a share or a difference of two in percentage points, one decimal."""
    return number(100 * share, decimals=1, is_signed=is_signed)


def number(value: float, *, decimals: int, is_signed: bool = False) -> str:
    """Return a rounded number with a minus sign of its own width, never a negative zero."""
    rounded = round(value, decimals) or 0.0
    return f"{rounded:{'+' if is_signed and rounded else ''}.{decimals}f}".replace("-", "−")


def interval_points(interval: Interval | None) -> str:
    """Return an interval of shares as '1.0 to 11.4', percentage points."""
    if interval is None:
        return NONE
    return f"{points(interval.low, is_signed=False)} to {points(interval.high, is_signed=False)}"


def p_value(value: float) -> str:
    return f"<{SMALLEST_P_VALUE}" if value < SMALLEST_P_VALUE else f"{value:.4f}"


def span(values: Iterable[float]) -> str:
    """Return '100', or '50 to 100' where the values differ."""
    ordered = sorted(values)
    low, high = ordered[0], ordered[-1]
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def rows_table(rows: Sequence[Row]) -> str:
    """Return one line a run: both scores with their Wilson intervals, and the gain."""
    columns = ("variant", "task", "seed", "iteration 0", "Wilson 95 %", "final", "Wilson 95 %", "gain, points")
    return table(columns, [_row_cells(row) for row in rows])


def _row_cells(row: Row) -> tuple[str, ...]:
    first, final = row.scores.get(FIRST), row.scores[FINAL]
    gain = points(_share(final) - _share(first)) if first else NONE
    return (f"`{row.variant}`", str(row.task), str(row.seed), *_score_cells(first), *_score_cells(final), gain)


def _score_cells(score: PolicyScore | None) -> tuple[str, str]:
    if score is None:
        return NONE, NONE
    low, high = wilson_interval(score.successes, score.episodes)
    return f"{score.successes}/{score.episodes}", interval_points(Interval(low=low, high=high))


def _share(score: PolicyScore) -> float:
    return score.successes / score.episodes


def gains_table(pairs: Mapping[str, Sequence[Pair]], *, seed: int) -> str:
    """Return one line a variant, {variant: pairs}: its final policy minus its iteration 0."""
    columns = ("variant", "cells", "episodes a cell", "iteration 0, %", "final, %", *DIFFERENCE_COLUMNS, "cells negative")
    lines = []
    for variant, cells in pairs.items():
        difference = success_difference(cells, seed=seed)
        counts = (str(difference.num_cells), span(pair.num_episodes for pair in cells))
        lines.append((f"`{variant}`", *counts, *_means(cells), *difference_cells(difference), str(difference.num_negative)))
    return table(columns, lines)


def difference_cells(difference: SuccessDifference) -> tuple[str, str, str]:
    """Return what stands under `DIFFERENCE_COLUMNS`."""
    return points(difference.estimate), interval_points(difference.bootstrap), interval_points(difference.student)


def _means(pairs: Sequence[Pair]) -> tuple[str, str]:
    """Return the success of baseline and candidate, mean over the cells, percent."""
    baseline, candidate = (
        math.fsum(shares) / len(pairs)
        for shares in zip(*((_share(pair.baseline), _share(pair.candidate)) for pair in pairs), strict=True)
    )
    return points(baseline, is_signed=False), points(candidate, is_signed=False)


def indicators_table(rows: Sequence[Row], *, variants: Iterable[str], seed: int) -> str:
    """Return one line a variant and further score: the final policy minus the same one served otherwise."""
    lines = []
    for variant in variants:
        names = sorted({name for row in rows if row.variant == variant for name in row.scores} - {FIRST, FINAL})
        for name in names:
            pairs = pair_scores(rows, variant=variant, candidate=FINAL, baseline=name)
            if not pairs:
                continue
            difference = success_difference(pairs, seed=seed)
            counts = (str(difference.num_negative), p_value(difference.p_value), str(difference.num_cells))
            lines.append((f"`{variant}`", name, *reversed(_means(pairs)), *difference_cells(difference), *counts))
    counted = ("cells negative", "sign-flip p", "cells")
    return table(("variant", "minus", "final, %", "other, %", *DIFFERENCE_COLUMNS, *counted), lines)


def throughput_table(pairs: Mapping[str, Sequence[Pair]], *, seed: int) -> str:
    """Return one line a variant, {variant: pairs}: successes per simulated hour, and their ratio."""
    lines = []
    for variant, cells in pairs.items():
        ratio = throughput_ratio(cells, seed=seed)
        rates = (number(ratio.baseline_rate, decimals=1), number(ratio.candidate_rate, decimals=1))
        if ratio.estimate is None or ratio.bootstrap is None:
            lines.append((f"`{variant}`", *rates, NONE, f"none: {ratio.reason}"))
            continue
        low, high = number(ratio.bootstrap.low, decimals=2), number(ratio.bootstrap.high, decimals=2)
        interval = f"{low} to {high}" if math.isfinite(ratio.bootstrap.high) else f"{low}, no upper limit"
        lines.append((f"`{variant}`", *rates, number(ratio.estimate, decimals=2), interval))
    return table(("variant", "iteration 0, per hour", "final, per hour", "ratio", "bootstrap 95 %"), lines)


def efficiency_table(rows: Sequence[Row], pairs: Mapping[str, Sequence[Pair]], *, seed: int) -> str:
    """Return one line a variant that collects, {variant: pairs}: what it played, and how much of that a point of gain takes."""
    lines = []
    for variant, cells in pairs.items():
        played = {row.cell: row.collected("episodes") for row in rows if row.variant == variant}
        known = [count for pair in cells if (count := played[pair.cell]) is not None]
        if len(known) < len(cells):
            continue
        episodes, difference = math.fsum(known) / len(known), success_difference(cells, seed=seed)
        expert_share = _collected_mean(rows, variant, "intervention_steps") / max(_collected_mean(rows, variant, "steps"), 1.0)
        gained = difference_cells(difference)[:2]
        per_point = [
            number(episodes / (100 * gain), decimals=1) if gain > 0 else NONE
            for gain in (difference.estimate, difference.bootstrap.high, difference.bootstrap.low)
        ]
        most = f" to {per_point[2]}" if difference.bootstrap.low > 0 else ", no upper limit"
        interval = NONE if difference.bootstrap.high <= 0 else per_point[1] + most
        lines.append((f"`{variant}`", f"{episodes:g}", points(expert_share, is_signed=False), *gained, per_point[0], interval))
    columns = ("variant", "episodes played", "of their steps by an expert, %", "gain, points", "bootstrap 95 %")
    return table((*columns, "episodes a point", "bootstrap 95 %"), lines)


def _collected_mean(rows: Sequence[Row], variant: str, name: str) -> float:
    counts = [row.collected(name) or 0.0 for row in rows if row.variant == variant]
    return math.fsum(counts) / len(counts)


def steps_table(pairs: Mapping[str, Sequence[Pair]], *, seed: int) -> str:
    """Return one line a variant, {variant: pairs}: median steps on episodes that both policies solve."""
    lines = []
    for variant, cells in pairs.items():
        steps = steps_to_success(cells, seed=seed)
        if steps is None:
            lines.append((f"`{variant}`", "0", NONE, NONE, NONE, "none: no episode is solved by both"))
            continue
        low, high = (number(end, decimals=1) for end in (steps.bootstrap.low, steps.bootstrap.high))
        medians = (number(steps.baseline_median, decimals=1), number(steps.candidate_median, decimals=1))
        difference = number(steps.difference, decimals=1, is_signed=True)
        lines.append((f"`{variant}`", str(steps.num_episodes), *medians, difference, f"{low} to {high}"))
    columns = ("variant", "episodes both solve", "iteration 0, steps", "final, steps", "difference", "bootstrap 95 %")
    return table(columns, lines)


def specs_table(rows: Sequence[Row]) -> str:
    """Return one line a cell: what its episodes were, and the ids of their eval-specs."""
    lines = []
    for task, seed in sorted({row.cell for row in rows}):
        scores = [score for row in rows if row.cell == (task, seed) for score in row.scores.values()]
        ids = ", ".join(f"`{spec}`" for spec in sorted({score.eval_spec for score in scores}))
        sizes = (span(s.episodes for s in scores), span(s.max_steps for s in scores), span(s.control_hz for s in scores))
        lines.append((str(task), str(seed), *sizes, ids))
    return table(("task", "seed", "episodes", "limit, steps", "control, Hz", "eval-spec"), lines)


def facts_table(rows: Sequence[Row], *, variants: Sequence[str]) -> str:
    """Return one line a fact and one column a variant: the mean over the cells that have a finite value."""
    names = sorted({name for row in rows for name in row.facts})
    by_variant = [[row for row in rows if row.variant == variant] for variant in variants]
    lines = []
    for name in names:
        lines.append((name, *(_mean([row.facts[name] for row in group if name in row.facts]) for group in by_variant)))
    if rows:
        hours = [[row.cpu_seconds / SECONDS_PER_HOUR for row in group] for group in by_variant]
        lines.append(("CPU-hours of a row", *map(_mean, hours)))
    return table(("fact", *(f"`{variant}`" for variant in variants)), lines)


def _mean(values: Sequence[float]) -> str:
    finite = [value for value in values if math.isfinite(value)]
    return f"{math.fsum(finite) / len(finite):.3g}".replace("-", "−") if finite else NONE
