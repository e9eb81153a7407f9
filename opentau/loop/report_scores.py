"""The report's sections on what the policies achieve: success, gate, interventions and time."""

from __future__ import annotations

from collections.abc import Sequence

from opentau import events
from opentau.loop import report_charts as charts
from opentau.loop.report_charts import Mark, percent, points
from opentau.loop.report_parts import Figure, Section, Table
from opentau.runstate import COLLECT, RunSummary, Score, StageState, Tally, Verdict, duration_text

ROLE_SERIES = {events.INCUMBENT: 0, events.CANDIDATE: 1}
ROLE_LEGEND = ((0, "incumbent"), (1, "candidate"))
COLLECT_SERIES, INTERVENTION_SERIES = 1, 2

ID_DIGITS = 12
"""Shown of a checkpoint's id."""


def success_section(run: RunSummary) -> Section:
    """Return the success rates and throughputs of all evaluated policies."""
    scores = [score for score in run.scores if score.role in ROLE_SERIES]
    scores.sort(key=lambda score: (score.iteration, ROLE_SERIES[score.role]))
    columns = ("iteration", "policy", "succeeded", "rate", "95 % interval", "eval spec")
    rows = tuple(_score_row(score) for score in [*scores, *run.scores_of(events.FINAL)])
    return Section(
        id="success",
        title="Success per iteration",
        lead="Wilson 95 % intervals. Candidate and incumbent of an iteration played the same placements; every iteration has "
        "fresh ones, so compare within an iteration. Per simulated hour, failures and slow successes both cost.",
        missing="No policy has been evaluated yet.",
        figures=(*_success_figures(scores), *_throughput_figures(scores)),
        table=Table(columns=columns, rows=rows) if rows else None,
    )


def _success_figures(scores: Sequence[Score]) -> list[Figure]:
    marks = [
        Mark(
            group=f"iteration {score.iteration}",
            series=ROLE_SERIES[score.role],
            value=score.rate,
            low=score.interval[0],
            high=score.interval[1],
            text=f"{score.role} {score.policy}: {score.successes} of {score.episodes}",
        )
        for score in scores
    ]
    if not marks:
        return []
    chart = charts.interval_chart(marks, label="Success rate of every iteration's policies with 95 % intervals", low=0, high=1)
    return [Figure(title="Success rate", chart=chart, legend=ROLE_LEGEND)]


def _throughput_figures(scores: Sequence[Score]) -> list[Figure]:
    marks = [
        Mark(
            group=f"iteration {score.iteration}",
            series=ROLE_SERIES[score.role],
            value=score.successes_per_hour,
            text=f"{score.role} {score.policy}: {score.successes} in {duration_text(score.simulated_s or 0.0)} simulated",
        )
        for score in scores
        if score.successes_per_hour is not None
    ]
    title = "Successes per simulated hour"
    return [Figure(title=title, chart=charts.bar_chart(marks, label=title), legend=ROLE_LEGEND)] if marks else []


def _score_row(score: Score) -> tuple[str, ...]:
    low, high = score.interval
    role = "official states" if score.role == events.FINAL else score.role
    counts = f"{score.successes} of {score.episodes}"
    interval = f"{100 * low:.0f} to {percent(high)}"
    return str(score.iteration), f"{role} · {score.policy[:ID_DIGITS]}", counts, percent(score.rate), interval, score.eval_spec


def gate_section(run: RunSummary) -> Section:
    """Return the paired differences and verdicts."""
    columns = ("iteration", "verdict", "won", "lost", "pairs", "p", "why")
    rows = tuple(_verdict_row(verdict) for verdict in run.verdicts)
    return Section(
        id="gate",
        title="What was promoted and why",
        lead="Both policies face the same placements and noise; only pairs in which one alone succeeds count. On hardware, "
        "where no placement comes back, they take turns in random order, and successes count. The gate is a sequential exact "
        "test whose levels allow for looking several times; the intervals drawn here do not.",
        missing="No gate has been held yet.",
        figures=(_difference_figure(run.verdicts),) if rows else (),
        table=Table(columns=columns, rows=rows) if rows else None,
    )


def _difference_figure(verdicts: Sequence[Verdict]) -> Figure:
    marks, reach = [], 0.2
    for verdict in verdicts:
        difference, low, high = verdict.difference
        reach = max(reach, abs(low), abs(high))
        group = f"iteration {verdict.iteration}"
        marks.append(Mark(group=group, series=1, value=difference, low=low, high=high, text=verdict.counts))
    label = "Difference of success, candidate minus incumbent, in percentage points with 95 % intervals"
    chart = charts.interval_chart(marks, label=label, low=-reach, high=reach, name=points)
    return Figure(title="Candidate minus incumbent", chart=chart, note="Percentage points of success, with 95 % intervals.")


def _verdict_row(verdict: Verdict) -> tuple[str, ...]:
    decision = f"{verdict.verdict}, {'promoted' if verdict.is_promoted else 'incumbent kept'}"
    counts = (str(verdict.wins), str(verdict.losses), str(verdict.pairs), f"{verdict.p_value:.2g}")
    return str(verdict.iteration), decision, *counts, verdict.text


def interventions_section(run: RunSummary) -> Section:
    """Return how often the expert took over, and how many steps a success took, while collecting."""
    tallies = [(stage, run.tallies[stage.name]) for stage in run.stages if stage.work == COLLECT and stage.name in run.tallies]
    shares = [
        Mark(
            group=f"iteration {stage.iteration}",
            series=INTERVENTION_SERIES,
            value=100 * tally.intervention_rate,
            text=f"{tally.num_intervened} of {tally.num_episodes} episodes had an intervention",
        )
        for stage, tally in tallies
    ]
    steps = [
        Mark(group=f"iteration {stage.iteration}", series=COLLECT_SERIES, value=tally.steps_per_success)
        for stage, tally in tallies
        if tally.steps_per_success is not None
    ]
    titles = ("Control steps under intervention, per cent", "Control steps per success")
    drawn = [(title, marks) for title, marks in zip(titles, (shares, steps), strict=True) if marks]
    columns = ("stage", "episodes", "succeeded", "with intervention", "steps intervened", "steps per success")
    rows = tuple(_tally_row(stage, tally) for stage, tally in tallies)
    return Section(
        id="interventions",
        title="Interventions while collecting",
        lead="How often the expert took over. Evaluations are never helped.",
        missing="No episodes have been collected yet.",
        figures=tuple(Figure(title=title, chart=charts.bar_chart(marks, label=title)) for title, marks in drawn),
        table=Table(columns=columns, rows=rows) if rows else None,
    )


def _tally_row(stage: StageState, tally: Tally) -> tuple[str, ...]:
    counts = (str(tally.num_episodes), str(tally.num_successes), str(tally.num_intervened))
    steps = f"{tally.steps_per_success:.0f}" if tally.steps_per_success is not None else "none succeeded"
    return stage.name, *counts, percent(tally.intervention_rate), steps


def time_section(run: RunSummary) -> Section:
    """Return what every finished stage cost."""
    done = [stage for stage in run.stages if stage.seconds is not None]
    rows = [_time_row(stage) for stage in done]
    total_s = sum(stage.seconds or 0.0 for stage in done)
    rows.append(("together", duration_text(total_s), f"{run.cpu_seconds / 60:.1f}" if run.cpu_seconds else "—"))
    return Section(
        id="time",
        title="Time",
        lead="Working time and processor time (user and system) of every finished stage.",
        missing="No stage has finished yet.",
        table=Table(columns=("stage", "time", "CPU-minutes"), rows=tuple(rows)) if done else None,
    )


def _time_row(stage: StageState) -> tuple[str, ...]:
    cpu_minutes = f"{stage.cpu_seconds / 60:.1f}" if stage.cpu_seconds is not None else "—"
    return stage.name + (" (reused)" if stage.is_reused else ""), duration_text(stage.seconds or 0.0), cpu_minutes
