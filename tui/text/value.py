"""What the critic says and what labels came of it: advantages with thresholds, calibration, and the course of an episode."""

from __future__ import annotations

import numpy as np

from opentau.labelfacts import LabelFacts
from opentau.runfiles import Film
from opentau.runstate import RunSummary, number_text
from opentau.types import Source
from tui.text.lines import Line, Span, columns, cut, percent, table

NONE_YET = "no labels yet"
HUMAN_MARK, EXPERT_MARK = "▲", "·"


def histogram_rows(facts: LabelFacts | None, width: int, *, height: int) -> list[Line]:
    """Return the frames by their advantage as columns of `height` rows, the thresholds below, and the shares of positives."""
    if facts is None:
        return [[(NONE_YET, "dim")]]
    totals = [sum(column) for column in zip(*facts.counts.values(), strict=True)]
    repeat = max(1, min(3, (width - 2) // len(totals)))
    lines: list[Line] = [[(row, "accent")] for row in columns([total for total in totals for _ in range(repeat)], height)]
    low, high, num_cells = facts.edges[0], facts.edges[-1], repeat * len(totals)
    axis = ["─"] * num_cells
    for threshold in facts.thresholds.values():
        if low <= threshold <= high:
            axis[min(num_cells - 1, int(num_cells * (threshold - low) / (high - low)))] = "▲"
    ends = f"{low:+.2f}", f"{high:+.2f}"
    lines.append([("".join(axis), "dim")])
    lines.append([(ends[0] + ends[1].rjust(num_cells - len(ends[0])), "dim")])
    told = ", ".join(f"{task} {threshold:.3f}" for task, threshold in sorted(facts.thresholds.items()))
    lines.append([("▲ threshold ", ""), (told or "none: this rule has none", "dim")])
    return [cut(line, width) for line in lines]


def share_rows(facts: LabelFacts | None, width: int) -> list[Line]:
    """Return how many frames every source has, and how many of them are labelled positive."""
    if facts is None:
        return [[(NONE_YET, "dim")]]
    rows: list[list[Span]] = [
        [(source, ""), (str(sum(facts.counts[source])), "dim"), (percent(facts.positive.get(source, 0.0)), "strong")]
        for source in facts.counts
    ]
    return table(("frames of", "number", "positive"), rows, width)


def calibration_rows(facts: LabelFacts | None, width: int) -> list[Line]:
    """Return predicted and realised returns of each tenth of the autonomous frames on one axis from -1 to 0."""
    if facts is None:
        return [[(NONE_YET, "dim")]]
    if not facts.calibration:
        return [[("no autonomous frames", "dim")]]
    num_cells = max(8, width - 14)
    lines: list[Line] = []
    for predicted, realised, _ in facts.calibration:
        cells = ["·"] * num_cells
        at = [min(num_cells - 1, max(0, round((value + 1) * (num_cells - 1)))) for value in (predicted, realised)]
        for i in range(min(at), max(at)):
            cells[i] = "─"
        cells[at[0]], cells[at[1]] = "○", "●"
        lines.append([(f"{predicted:6.2f} ", "dim"), ("".join(cells), ""), (f" {realised:5.2f}", "strong")])
    lines.append([(" " * 7 + "-1" + "0".rjust(num_cells - 2), "dim")])
    lines.append([("○ predicted  ● realised, tenths of the autonomous frames", "dim")])
    return [cut(line, width) for line in lines]


def measure_rows(summary: RunSummary, iteration: int, width: int) -> list[Line]:
    """Return the measures of an iteration's critic, as its stage summed them up."""
    stage = summary.stage(f"value-{iteration}")
    measures = {name: value for name, value in (stage.summary if stage else {}).items() if name.startswith("value/")}
    if not measures:
        return [[("the critic has not been measured", "dim")]]
    return [
        cut([(f"{name.removeprefix('value/'):<22}", "dim"), (number_text(value), "")], width)
        for name, value in measures.items()
    ]


def trace_rows(film: Film | None, width: int, *, height: int) -> list[Line]:
    """Return an episode's values from -1 to 0 over its control steps, with the steps marked in which somebody intervened."""
    if film is None:
        return [[("no episode with values chosen", "dim")]]
    length = len(film.source)
    num_cells = max(2, min(length, width - 7))
    places = np.array_split(np.arange(length), num_cells)
    is_human = [bool((film.source[part] == Source.INTERVENTION).any()) for part in places]
    head: Line = [(f"{film.stage} {film.episode_id.split('/')[-1]} ", "strong"), (f"{film.outcome} after {length} steps", "")]
    if np.isnan(film.values).all():
        lines = [[("  no critic looked at it", "dim")]]
    else:
        said = _held(film.values)
        values = [float(np.mean(said[part])) for part in places]
        rows = columns([0.02 + min(1.0, max(0.0, 1 + value)) for value in values], height, top=1.02)
        labels = ["0", *[""] * (height - 2), "-1"]
        lines = [[(f"{label:>5} ", "dim"), (row, "accent")] for label, row in zip(labels, rows, strict=True)]
    marks = "".join(HUMAN_MARK if is_one else EXPERT_MARK for is_one in is_human)
    told = f" {HUMAN_MARK} intervention" if any(is_human) else " no intervention"
    return [cut(line, width) for line in [[*head, (told, "dim")], *lines, [(" " * 6 + marks, "warning")]]]


def _held(values: np.ndarray) -> np.ndarray:
    """Return values float [T] with each unknown one as the one before it: a served critic speaks when a chunk is asked for."""
    known = np.where(np.isnan(values), -1, np.arange(len(values)))
    last = np.maximum.accumulate(known)
    return np.where(last >= 0, values[np.maximum(last, 0)], np.nan)
