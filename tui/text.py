"""A run's summary as lines of text: pure functions of (summary, now, width) that the panels and `--plain` share."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Sequence

from opentau import control, events
from opentau.runstate import (
    Curve,
    RunPhase,
    RunSummary,
    Score,
    StageState,
    StageStatus,
    Tally,
    Verdict,
    duration_text,
    number_text,
    thinned,
)

Span = tuple[str, str]
"""A text and its style: one of '', 'strong', 'dim', 'accent', 'good', 'warning', 'bad'."""
Line = list[Span]
Draw = Callable[[RunSummary, float, int], list[Line]]
"""Lines of a summary at a moment, seconds since the epoch, for a width in columns."""

LOG_ROWS = 200
QUIET_S = 60.0
"""A run that should be running and says nothing for this long may be dead; the header says so."""

# Glyphs carry the meaning, colour repeats it: everything reads without colour.
PHASE_GLYPHS = {
    RunPhase.WAITING: ("○", "dim"),
    RunPhase.RUNNING: ("●", "accent"),
    RunPhase.PAUSED: ("‖", "warning"),
    RunPhase.STOPPED: ("■", "warning"),
    RunPhase.FINISHED: ("✓", "good"),
    RunPhase.FAILED: ("✗", "bad"),
}
STAGE_GLYPHS = {
    StageStatus.WAITING: ("○", "dim"),
    StageStatus.RUNNING: ("●", "accent"),
    StageStatus.FINISHED: ("✓", "good"),
    StageStatus.FAILED: ("✗", "bad"),
}
LEVEL_STYLES = {"info": "", "warning": "warning", "error": "bad"}
SPARKS = "▁▂▃▄▅▆▇█"


def plain(line: Line) -> str:
    """Return a line without its styles."""
    return "".join(text for text, _ in line)


def spread(left: Line, right: Line, width: int) -> Line:
    """Return both parts at the two ends of a line; where they do not fit, the left one gives way first."""
    room = width - len(plain(right)) - 1
    kept = cut(left, room) if room > 0 else []
    return cut([*kept, (" " * (width - len(plain(kept)) - len(plain(right))), ""), *right], width)


def cut(line: Line, width: int) -> Line:
    """Return the line in at most `width` columns, with an ellipsis where something is missing."""
    if len(plain(line)) <= width:
        return line
    kept: Line = []
    room = max(0, width - 1)
    for text, style in line:
        kept.append((text[:room], style))
        room -= len(text[:room])
    return [*kept, ("…", "dim")]


def clock(seconds: float) -> str:
    """Return a duration as '2:05' or '1:02:05'."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def about_text(seconds: float) -> str:
    """Return a duration that is only estimated, without seconds that mean nothing."""
    return duration_text(seconds if seconds < 60 else 60 * round(seconds / 60)).removesuffix(" 00 s")


def bar(share: float, width: int) -> Line:
    """Return a progress bar."""
    full = round(min(1.0, max(0.0, share)) * width)
    return [("━" * full, "accent"), ("╌" * (width - full), "dim")]


def sparkline(values: Sequence[float]) -> str:
    """Return one block character a value, from the smallest to the largest; values that are not finite are spaces."""
    finite = [value for value in values if abs(value) < float("inf")]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    scale = (len(SPARKS) - 1) / (high - low) if high > low else 0.0
    return "".join(SPARKS[round((value - low) * scale)] if abs(value) < float("inf") else " " for value in values)


def header(summary: RunSummary, now: float, width: int) -> list[Line]:
    """Return three lines: the run and when it ends; the stage and how far it is; what it measures or what went wrong."""
    left: Line = [(" OpenTau  ", "accent"), (summary.run_id or "waiting for the run to begin", "strong")]
    return [spread(left, _whereabouts(summary, now), width), _stage_line(summary, now, width), _facts(summary, now, width)]


def _whereabouts(summary: RunSummary, now: float) -> Line:
    glyph, style = PHASE_GLYPHS[summary.phase]
    words = str(summary.phase)
    for verb in summary.pending:
        words += ", stop after this stage" if verb == control.STOP else f", {verb} requested"
    line: Line = [(f"{glyph} {words}", style)]
    if summary.iteration is not None:
        line.append((f" · iteration {summary.iteration} of {summary.iterations[-1]}", ""))
    eta = summary.eta(now)
    if eta is not None and (eta.seconds or not eta.num_unknown):
        line.append((f" · {'over' if eta.num_unknown else 'about'} {about_text(eta.seconds)} left", ""))
    elif summary.phase.is_over:
        line.append((f" · took {duration_text(summary.seconds(now))}", ""))
    return [*line, (" ", "")]


def _stage_line(summary: RunSummary, now: float, width: int) -> Line:
    stage = summary.current
    if stage is None:
        done = sum(stage.status is StageStatus.FINISHED for stage in summary.stages)
        return [(f" {done} of {len(summary.stages)} stages done", "dim")] if summary.stages else []
    left: Line = [(f" {stage.name} ", "strong")]
    right: Line = [(f"{clock(stage.elapsed_s(now) or 0.0)} ", "dim")]
    if stage.progress is not None and stage.progress.total > 0:
        progress, remaining = stage.progress, summary.remaining_s(stage, now)
        right = [(f"  {progress.done}/{progress.total} {progress.unit}", "")]
        right.append((f" · {clock(remaining)} left " if remaining is not None else " ", "dim"))
        left += bar(progress.done / progress.total, max(0, width - len(plain(left)) - len(plain(right)) - 1))
    return spread(left, right, width)


def _facts(summary: RunSummary, now: float, width: int) -> Line:
    right: Line = [(f"{summary.cpu_seconds / 60:.1f} CPU-min " if summary.cpu_seconds else "", "dim")]
    quiet_s = now - summary.last_t
    if summary.phase is RunPhase.FAILED:
        return cut([(f" ✗ {summary.error}", "bad")], width)
    if summary.phase is RunPhase.FINISHED:
        return spread(_outcome(summary), right, width)
    if summary.phase is RunPhase.RUNNING and quiet_s > QUIET_S:
        return spread(
            [(f" ! no news for {duration_text(quiet_s)}; the run may be dead, start it again to resume", "warning")],
            right,
            width,
        )
    stage = summary.current.name if summary.current else ""
    curve = next((curve for curve in summary.curves if curve.stage == stage and "loss" in curve.metric), None)
    if curve is not None:
        return spread(_curve_facts(curve), right, width)
    return spread(_tally_facts(summary.tallies[stage]) if stage in summary.tallies else [], right, width)


def _outcome(summary: RunSummary) -> Line:
    promoted = [str(verdict.iteration) for verdict in summary.verdicts if verdict.is_promoted]
    words = f" promoted in iteration {', '.join(promoted)}" if promoted else " no candidate was promoted"
    final = summary.scores_of(events.FINAL)
    rates = f"official states {' → '.join(f'{100 * score.rate:.0f} %' for score in final)}" if final else ""
    return [(words, "good" if promoted else "warning"), (f" · {rates}" if rates else "", "")]


def _curve_facts(curve: Curve) -> Line:
    values = [value for _, value in thinned(curve.points, 24)]
    return [(f" {curve.metric} {number_text(values[-1])} ", ""), (sparkline(values), "accent")]


def _tally_facts(tally: Tally) -> Line:
    facts = [f" {tally.num_successes} of {tally.num_episodes} succeed"]
    if tally.steps_per_success is not None:
        facts.append(f"{tally.steps_per_success:.0f} steps per success")
    if tally.num_intervened:
        facts.append(f"{100 * tally.intervention_rate:.0f} % intervened")
    return [(" · ".join(facts), "")]


def stage_rows(summary: RunSummary, now: float, width: int) -> list[Line]:
    """Return one line per planned stage: state, name and time (dim and about where it is only expected)."""
    return [spread(*_stage_row(summary, stage, now), width) for stage in summary.stages]


def _stage_row(summary: RunSummary, stage: StageState, now: float) -> tuple[Line, Line]:
    glyph, style = STAGE_GLYPHS[stage.status]
    name_style = {StageStatus.RUNNING: "strong", StageStatus.WAITING: "dim"}.get(stage.status, "")
    left: Line = [(f"{glyph} ", style), (stage.name, name_style)]
    if stage.is_reused:
        return left, [("reused", "dim")]
    if stage.status is StageStatus.WAITING:
        expected = summary.remaining_s(stage, now)
        return left, [(f"~{clock(expected)}" if expected is not None else "", "dim")]
    return left, [(clock(stage.elapsed_s(now) or 0.0), "")]


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


def interval_bar(rate: float, interval: tuple[float, float], width: int) -> Line:
    """Return '····├──●───┤····': a rate in [0, 1] and its interval on an axis from 0 to 1."""
    low, middle, high = (round(min(1.0, max(0.0, x)) * (width - 1)) for x in (interval[0], rate, interval[1]))
    cells = ["·"] * width
    cells[low : high + 1] = "─" * (high + 1 - low)
    cells[low], cells[high], cells[middle] = "├", "┤", "●"
    whisker = "".join(cells)
    return [(whisker[:low], "dim"), (whisker[low : high + 1], "accent"), (whisker[high + 1 :], "dim")]


def _verdict_words(verdict: Verdict) -> Line:
    style = "good" if verdict.is_promoted else "warning"
    decision = "promoted" if verdict.is_promoted else "kept out"
    return [
        (f"{verdict.verdict}, {decision}", style),
        (f" · {verdict.counts}", "dim"),
    ]


def station_rows(summary: RunSummary, now: float, width: int) -> list[Line]:
    """Return a table of the stations."""
    if not summary.stations:
        return [[("no station yet", "dim")]]
    name_width = max(7, *(len(station.name) for station in summary.stations))
    head = f"{'station':<{name_width}} {'state':<9} {'played':>6} {'ok':>4} {'lost':>4} {'heard':>6}"
    lines = [cut([(head, "dim")], width)]
    for station in summary.stations:
        style = {"lost": "bad", "replaced": "warning", "connected": "good"}.get(station.state, "dim")
        counts = f" {station.num_episodes:>6} {station.num_successes:>4} {station.num_lost:>4}"
        heard = f" {clock(max(0.0, now - station.t)):>6}"
        cells: Line = [(f"{station.name:<{name_width}} ", ""), (f"{station.state:<9}", style), (counts + heard, "")]
        has_room = width - len(plain(cells)) >= 16
        lines.append(cut([*cells, (f"  {station.text}", "dim")] if has_room else cells, width))
    return lines


def curve_rows(summary: RunSummary, now: float, width: int) -> list[Line]:
    """Return one line per metric of the newest training stage: name, newest value and its course."""
    if not summary.curves:
        return [[("no training yet", "dim")]]
    stage = summary.curves[-1].stage
    curves = [curve for curve in summary.curves if curve.stage == stage]
    name_width = max(len(curve.metric) for curve in curves)
    lines: list[Line] = [[(f"{stage}, update {curves[0].points[-1][0]}", "dim")]]
    for curve in curves:
        values = [value for _, value in thinned(curve.points, max(2, width - name_width - 11))]
        lines.append([(f"{curve.metric:<{name_width}} {number_text(values[-1]):>9} ", ""), (sparkline(values), "accent")])
    return lines


def log_rows(summary: RunSummary, now: float, width: int) -> list[Line]:
    """Return the newest log lines, wrapped, with local clock times."""
    lines: list[Line] = []
    for entry in summary.log[-LOG_ROWS:]:
        style = LEVEL_STYLES[entry.level]
        stamp = time.strftime("%H:%M:%S ", time.localtime(entry.t))
        rows = textwrap.wrap(entry.text, max(20, width - len(stamp))) or [""]
        lines.append([(stamp, "dim"), (rows[0], style)])
        lines += [[(" " * len(stamp), ""), (row, style)] for row in rows[1:]]
    return lines or [[("nothing yet", "dim")]]


_BLOCKS = (("STAGES", stage_rows), ("SUCCESS", success_rows), ("STATIONS", station_rows), ("LOG", log_rows))


def render_plain(summary: RunSummary, *, now: float | None = None, width: int = 80, num_log_rows: int = 10) -> str:
    """Return the whole screen as plain text, for pipes, CI and `--plain`; `now` is the newest event's time by default."""
    now = summary.last_t if now is None else now
    blocks = [header(summary, now, width)]
    for title, draw in _BLOCKS:
        rows = draw(summary, now, width)
        blocks.append([[(title, "")], *(rows[-num_log_rows:] if draw is log_rows else rows)])
    return "\n\n".join("\n".join(plain(line).rstrip() for line in block).rstrip() for block in blocks) + "\n"
