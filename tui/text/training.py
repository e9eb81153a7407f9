"""How trainings go: losses and their course, rates, waiting for data, and the machine."""

from __future__ import annotations

import math

from opentau.runstate import Curve, RunSummary, StageStatus, number_text, thinned
from tui.text.lines import Line, clock, columns, cut, sparkline

MACHINE = ("machine/", "time/")
"""Metrics of these names tell how the machine does, not the training."""
MACHINE_WORDS = {
    "machine/updates_per_s": ("updates/s", 1.0, ""),
    "time/data_wait_ms": ("data wait", 1.0, " ms"),
    "machine/cpu": ("processor", 1.0, " cores"),
    "machine/memory_gb": ("memory", 1.0, " GB"),
    "machine/gpu_memory_gb": ("GPU memory", 1.0, " GB"),
    "machine/disk_free_gb": ("free on disk", 1.0, " GB"),
}


def trained_stages(summary: RunSummary) -> list[str]:
    """Return the stages that have curves, oldest first."""
    return list(dict.fromkeys(curve.stage for curve in summary.curves))


def curve_rows(summary: RunSummary, now: float, width: int, *, stage: str | None = None) -> list[Line]:
    """Return one line per metric of a training stage, the newest by default: name, newest value and its course."""
    if not summary.curves:
        return [[("no training yet", "dim")]]
    stage = stage or summary.curves[-1].stage
    curves = [curve for curve in summary.curves if curve.stage == stage and not curve.metric.startswith(MACHINE)]
    if not curves:
        return [[(f"{stage} reports no metrics yet", "dim")]]
    name_width = max(len(curve.metric) for curve in curves)
    lines: list[Line] = [[(f"{stage}, update {max(curve.points[-1][0] for curve in curves)}", "dim")]]
    for curve in curves:
        values = [value for _, value in thinned(curve.points, max(2, width - name_width - 11))]
        lines.append([(f"{curve.metric:<{name_width}} {number_text(values[-1]):>9} ", ""), (sparkline(values), "accent")])
    return lines


def loss_chart(summary: RunSummary, now: float, width: int, *, stage: str | None, height: int) -> list[Line]:
    """Return the first loss of a stage as a chart of `height` rows over its updates, on a logarithmic axis if it is wide."""
    of_stage = (
        [curve for curve in summary.curves if curve.stage == (stage or summary.curves[-1].stage)] if summary.curves else []
    )
    curve = next((curve for curve in of_stage if "loss" in curve.metric), None)
    if curve is None:
        return [[("no loss yet", "dim")]]
    points = thinned([point for point in curve.points if math.isfinite(point[1])], max(2, width - 9))
    values = [value for _, value in points]
    if not values:
        return [[(f"{curve.metric} is not finite", "bad")]]
    low, high = min(values), max(values)
    is_log = low > 0 and high > 10 * low
    scaled = [math.log10(value / low) if is_log else value - low for value in values]
    span = max(scaled) or 1.0
    rows = columns([value + span / 16 for value in scaled], height, top=span * 17 / 16)
    labels = [number_text(high), *[""] * (height - 2), number_text(low)]
    lines: list[Line] = [[(f"{label:>8} ", "dim"), (row, "accent")] for label, row in zip(labels, rows, strict=True)]
    axis = f"update {points[0][0]} to {points[-1][0]}, {curve.metric}{', logarithmic' if is_log else ''}"
    return [cut(line, width) for line in [*lines, [(" " * 9 + axis, "dim")]]]


def machine_rows(summary: RunSummary, now: float, width: int, *, stage: str | None = None) -> list[Line]:
    """Return how fast a training goes, what it waits for and what the machine has left."""
    name = stage or (summary.curves[-1].stage if summary.curves else "")
    lines: list[Line] = []
    for curve in summary.curves:
        if curve.stage == name and curve.metric in MACHINE_WORDS:
            lines.append(_machine_row(curve, width))
    found = summary.stage(name)
    if found is not None and found.progress is not None and found.status is StageStatus.RUNNING:
        left_s = found.progress.remaining_s(now)
        left = f", {clock(left_s)} left" if left_s is not None else ""
        lines.append([("progress".ljust(15), "dim"), (f"{found.progress.done} of {found.progress.total}{left}", "")])
    elif found is not None and found.seconds is not None:
        updates = found.summary.get("updates")
        rate = f", {updates / found.seconds:.2f} updates/s" if isinstance(updates, int) and found.seconds else ""
        lines.append([("took".ljust(15), "dim"), (f"{clock(found.seconds)}{rate}", "")])
    if found is not None and found.cpu_seconds is not None and found.seconds:
        cores = f"{clock(found.cpu_seconds)}, {found.cpu_seconds / found.seconds:.1f} cores"
        lines.append([("processor time".ljust(15), "dim"), (cores, "")])
    return [cut(line, width) for line in lines] or [[("nothing is trained yet", "dim")]]


def _machine_row(curve: Curve, width: int) -> Line:
    words, factor, unit = MACHINE_WORDS[curve.metric]
    values = [factor * value for _, value in thinned(curve.points, max(2, width - 28))]
    return [(words.ljust(15), "dim"), (f"{values[-1]:>8.1f}{unit} ", ""), (sparkline(values), "accent")]
