"""Where a run is: its head of three lines, and its stages."""

from __future__ import annotations

from opentau import control, events
from opentau.runstate import Curve, RunPhase, RunSummary, StageState, StageStatus, Tally, duration_text, number_text, thinned
from tui.text.lines import Line, about_text, bar, clock, cut, plain, sparkline, spread

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
    right: Line = [(f" {summary.operator} steers ", "accent")] if summary.operator else []
    right.append((f"{summary.cpu_seconds / 60:.1f} CPU-min " if summary.cpu_seconds else "", "dim"))
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
    if not summary.verdicts:
        words = " no gate was held"
    else:
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
