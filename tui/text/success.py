"""How often policies succeed: rates with intervals, paired differences, throughput, failures, and rates per task."""

from __future__ import annotations

from collections.abc import Mapping

from opentau import events
from opentau.runstate import COLLECT, RunSummary, Score, Verdict, natural_order
from opentau.types import Outcome
from tui.text.lines import Line, Span, cut, difference_bar, interval_bar, percent, points, shade, table

OUTCOME_STYLES = {
    Outcome.SUCCESS: "good",
    Outcome.FAILURE: "bad",
    Outcome.TIMEOUT: "warning",
    Outcome.ABORTED: "dim",
    Outcome.ERROR: "bad",
}


def success_rows(summary: RunSummary, now: float, width: int) -> list[Line]:
    """Return the success rate of every evaluated policy with its 95 % interval, and the gate's verdicts."""
    if not summary.scores:
        return [[("no evaluation yet", "dim")]]
    bar_width = max(8, width - 27)
    lines: list[Line] = []
    for score in summary.scores:
        if score.role != events.FINAL:
            lines.append(_score_row(f"{score.iteration} {score.role}", score, bar_width))
        verdict = summary.verdict_of(score.iteration)
        if verdict is not None and score.role == events.CANDIDATE:
            lines.append(cut([("  └ ", "dim"), *_verdict_words(verdict)], width))
    for score in summary.scores_of(events.FINAL):
        lines.append(_score_row(f"official {'end' if score.iteration else 0}", score, bar_width))
    axis = "0 %" + "100 %".rjust(bar_width - 3)
    return [*lines, [(" " * 13 + axis, "dim")]]


def _score_row(label: str, score: Score, bar_width: int) -> Line:
    return [
        (f"{label:<13}", "" if score.role == events.CANDIDATE else "dim"),
        *interval_bar(score.rate, score.interval, bar_width),
        (f"{100 * score.rate:4.0f} %", "strong"),
        (f"{score.successes:>4}/{score.episodes}", "dim"),
    ]


def _verdict_words(verdict: Verdict) -> Line:
    style = "good" if verdict.is_promoted else "warning"
    decision = "promoted" if verdict.is_promoted else "kept out"
    return [
        (f"{verdict.verdict}, {decision}", style),
        (f" · {verdict.counts}", "dim"),
    ]


def difference_rows(summary: RunSummary, now: float, width: int) -> list[Line]:
    """Return the paired differences, candidate minus incumbent, with 95 % intervals and what the gate made of them."""
    if not summary.verdicts:
        return [[("no gate yet", "dim")]]
    differences = {verdict.iteration: verdict.difference for verdict in summary.verdicts}
    reach = max(0.2, *(abs(end) for _, low, high in differences.values() for end in (low, high)))
    bar_width = max(9, width - 42)
    lines: list[Line] = []
    for verdict in summary.verdicts:
        difference, low, high = differences[verdict.iteration]
        interval = f"{points(low)} to {points(high)}"
        lines.append(
            cut(
                [
                    (f"{verdict.iteration:<3}", ""),
                    *difference_bar(difference, (low, high), bar_width, reach=reach),
                    (f" {points(difference):>4}", "strong"),
                    (f" {interval:<12}", "dim"),
                    (f" p {verdict.p_value:<8.2g}", "dim"),
                    ("promoted" if verdict.is_promoted else "kept out", "good" if verdict.is_promoted else "warning"),
                ],
                width,
            )
        )
    ends = (points(-reach), points(reach))
    axis = ends[0] + "0".center(bar_width - len(ends[0]) - len(ends[1])) + ends[1]
    return [*lines, [("   " + axis + " percentage points", "dim")]]


def throughput_rows(summary: RunSummary, now: float, width: int) -> list[Line]:
    """Return how fast successes come: per simulated hour of evaluations, per real hour of stages that play."""
    rows: list[list[Span]] = []
    for score in summary.scores:
        rate = score.successes_per_hour
        if rate is not None:
            seconds = (score.simulated_s or 0.0) / max(1, score.episodes)
            name = f"{score.iteration} {score.role}"
            rows.append([(f"{name}*", ""), (f"{rate:.0f}", "strong"), (f"{seconds:.1f} s", ""), ("", "")])
    for stage in summary.stages:
        tally, worked_s = summary.tallies.get(stage.name), stage.elapsed_s(now)
        if tally is None or not worked_s or stage.is_reused:
            continue
        successes = f"{3600 * tally.num_successes / worked_s:.0f}"
        each = f"{worked_s / max(1, tally.num_episodes):.1f} s"
        steps = f"{tally.num_steps / worked_s:.0f}"
        rows.append([(stage.name, ""), (successes, "strong"), (each, ""), (steps, "")])
    if not rows:
        return [[("nothing played yet", "dim")]]
    lines = table(("successes an hour", "/h", "each", "steps/s"), rows, width)
    return [*lines, cut([("* of simulated time, failures at full length", "dim")], width)] if summary.scores else lines


def failure_rows(summary: RunSummary, now: float, width: int) -> list[Line]:
    """Return how the episodes of every stage end, and how much help they had."""
    tallies = [(stage.name, summary.tallies[stage.name]) for stage in summary.stages if stage.name in summary.tallies]
    if not tallies:
        return [[("no episode yet", "dim")]]
    known = [str(outcome) for outcome in Outcome if any(tally.outcomes.get(outcome) for _, tally in tallies)]
    rows: list[list[Span]] = []
    for name, tally in tallies:
        counts: list[Span] = [(str(tally.outcomes.get(outcome, 0)), OUTCOME_STYLES[Outcome(outcome)]) for outcome in known]
        helped: list[Span] = [(percent(tally.intervention_rate), "")]
        if any(other.human_s for _, other in tallies):
            helped.append((f"{tally.human_s / max(1, tally.num_episodes):.1f} s", ""))
        rows.append([(name, ""), *counts, *helped])
    head = ["stage", *known, "helped"]
    if any(tally.human_s for _, tally in tallies):
        head.append("human/ep.")
    return table(head, rows, width)


def task_rows(summary: RunSummary, now: float, width: int) -> list[Line]:
    """Return success rates by task and iteration, darker where they are higher."""
    columns: dict[str, Mapping[str, tuple[int, int]]] = {}
    for score in summary.scores:
        if score.tasks and score.role != events.INCUMBENT:
            columns["end" if score.role == events.FINAL and score.iteration else str(score.iteration)] = score.tasks
    for stage in summary.stages:
        tally = summary.tallies.get(stage.name)
        if tally is not None and tally.tasks and stage.work == COLLECT:
            columns[f"c{stage.iteration}"] = tally.tasks
    if not columns:
        return [[("no rates of single tasks yet", "dim")]]
    tasks = sorted({task for rates in columns.values() for task in rates}, key=natural_order)
    rows: list[list[Span]] = []
    for task in tasks:
        cells: list[Span] = []
        for rates in columns.values():
            successes, episodes = rates.get(task, (0, 0))
            share = successes / episodes if episodes else 0.0
            cells.append((f"{shade(share) * 2}{100 * share:3.0f}" if episodes else "", "accent"))
        rows.append([(task, ""), *cells])
    return table(("task, per cent", *columns), rows, width)
