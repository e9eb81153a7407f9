"""The fold from a run's events to its state; takes events one by one and gives a frozen summary at any moment."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from opentau import control, events
from opentau.runstate import (
    Change,
    Curve,
    LogLine,
    Progress,
    RunPhase,
    RunSummary,
    Score,
    StageState,
    StageStatus,
    StationState,
    Tally,
    Verdict,
    duration_text,
    natural_order,
    number_text,
)
from opentau.types import Outcome

LOG_LINES = 1000
CURVE_POINTS = 512

Event = Mapping[str, Any]


def fold(run_events: Iterable[Event]) -> RunSummary:
    """Return the summary of a run's events, given in time order."""
    state = RunFold()
    for event in run_events:
        state.update(event)
    return state.summary()


class RunFold:
    """Take events one by one and give a frozen summary at any moment; unknown kinds are left to newer readers."""

    def __init__(self) -> None:
        self._run = RunSummary()
        self._stages: dict[str, StageState] = {}
        self._episodes: dict[tuple[str, str], Counter[str]] = {}
        self._tallies: dict[str, Counter[str]] = {}
        self._scores: dict[tuple[int, str], Score] = {}
        self._verdicts: dict[int, Verdict] = {}
        self._stations: dict[str, StationState] = {}
        self._curves: dict[tuple[str, str], list[tuple[int, float]]] = {}
        self._log: deque[LogLine] = deque(maxlen=LOG_LINES)
        self._run_cpu_seconds = 0.0
        self._handlers: dict[str, Callable[[Event], None]] = {
            events.RUN_STARTED: self._run_started,
            events.RUN_FINISHED: self._run_finished,
            events.RUN_FAILED: self._run_failed,
            events.RUN_STOPPED: self._run_stopped,
            events.STAGE_STARTED: self._stage_started,
            events.STAGE_PROGRESS: self._stage_progress,
            events.STAGE_FINISHED: self._stage_finished,
            events.TRAIN_METRICS: self._train_metrics,
            events.EPISODE_FINISHED: self._episode_finished,
            events.EVALUATED: self._evaluated,
            events.VERDICT: self._verdict,
            events.STATION: self._station,
            events.COMMAND: self._command,
            events.LEASE: self._lease,
            events.TAKEOVER: self._takeover,
            events.NOTE: self._note,
        }

    def update(self, event: Event) -> None:
        """Take one more event."""
        handler = self._handlers.get(event["kind"])
        if handler is not None:
            handler(event)
            self._run = replace(self._run, last_t=max(self._run.last_t, event["t"]))

    def summary(self) -> RunSummary:
        """Return everything taken so far."""
        cpu_seconds = sum(stage.cpu_seconds or 0.0 for stage in self._stages.values())
        return replace(
            self._run,
            stages=tuple(self._stages.values()),
            tallies={stage: Tally(**counts) for stage, counts in self._tallies.items()},
            scores=tuple(sorted(self._scores.values(), key=lambda score: score.iteration)),
            verdicts=tuple(self._verdicts[iteration] for iteration in sorted(self._verdicts)),
            stations=tuple(self._stations[name] for name in sorted(self._stations, key=natural_order)),
            curves=tuple(Curve(stage=s, metric=m, points=tuple(points)) for (s, m), points in self._curves.items()),
            log=tuple(self._log),
            # Stages are known while the run goes on, attempts (with what lies between stages) once they ended.
            cpu_seconds=max(self._run_cpu_seconds, cpu_seconds),
        )

    def _say(self, event: Event, text: str, level: str = "info") -> None:
        self._log.append(LogLine(t=event["t"], level=level, text=text))

    def _stage(self, event: Event) -> StageState:
        return self._stages.get(event["stage"], StageState(name=event["stage"]))

    def _run_started(self, event: Event) -> None:
        self._leave_running_stages(StageStatus.WAITING)
        known = self._stages
        self._stages = {name: known.get(name, StageState(name=name)) for name in [*event["plan"], *known]}
        self._run = replace(
            self._run,
            run_id=event["run_id"],
            command=event["command"],
            phase=RunPhase.RUNNING,
            error="",
            pending=(),
            expected_s=dict(event.get("expected_s") or {}),
        )
        self._say(event, f"run {'resumed' if event['resumed'] else 'started'}: {event['command']}")

    def _run_finished(self, event: Event) -> None:
        self._end(event, RunPhase.FINISHED)
        self._say(event, f"run finished in {duration_text(event['seconds'])}, {event['cpu_seconds'] / 60:.1f} CPU-minutes")

    def _run_failed(self, event: Event) -> None:
        self._end(event, RunPhase.FAILED, stage_status=StageStatus.FAILED)
        self._run = replace(self._run, error=event["error"])
        self._say(event, f"run failed: {event['error']}", "error")

    def _run_stopped(self, event: Event) -> None:
        self._end(event, RunPhase.STOPPED)
        self._say(event, f"run stopped: {event['text']}", "warning")

    def _end(self, event: Event, phase: RunPhase, *, stage_status: StageStatus = StageStatus.WAITING) -> None:
        self._run = replace(self._run, phase=phase, pending=(), operator="")
        self._stations = {name: replace(station, operator="") for name, station in self._stations.items()}
        self._run_cpu_seconds += event["cpu_seconds"]
        self._leave_running_stages(stage_status)

    def _leave_running_stages(self, status: StageStatus) -> None:
        for name, stage in self._stages.items():
            if stage.status in (StageStatus.RUNNING, StageStatus.FAILED):
                self._stages[name] = replace(stage, status=status, progress=None)

    def _stage_started(self, event: Event) -> None:
        stage = replace(self._stage(event), status=StageStatus.RUNNING, started_t=event["t"], progress=None, is_reused=False)
        self._stages[stage.name] = replace(stage, seconds=None, cpu_seconds=None, summary={})
        self._say(event, f"{stage.name} started")

    def _stage_progress(self, event: Event) -> None:
        stage, t, done = self._stage(event), event["t"], event["done"]
        first = stage.progress or Progress(done=0, total=0, unit="", t=0.0, first_done=done, first_t=t)
        progress = replace(first, done=done, total=event["total"], unit=event["unit"], t=t)
        self._stages[stage.name] = replace(stage, progress=progress)

    def _stage_finished(self, event: Event) -> None:
        stage = replace(
            self._stage(event),
            status=StageStatus.FINISHED,
            seconds=event["seconds"],
            cpu_seconds=event.get("cpu_seconds"),
            is_reused=event["is_reused"],
            summary=dict(event["summary"]),
        )
        self._stages[stage.name] = stage
        words = "reused" if stage.is_reused else f"finished in {duration_text(event['seconds'])}"
        simple = {name: value for name, value in stage.summary.items() if isinstance(value, int | float | str)}
        facts = ", ".join(f"{name} {number_text(value)}" for name, value in simple.items())
        self._say(event, f"{stage.name} {words}" + (f": {facts}" if facts else ""))

    def _train_metrics(self, event: Event) -> None:
        for metric, value in event["metrics"].items():
            points = self._curves.setdefault((event["stage"], metric), [])
            while points and points[-1][0] >= event["update"]:  # resumed from an earlier checkpoint
                points.pop()
            points.append((event["update"], value))
            if len(points) > CURVE_POINTS:
                del points[1:-1:2]

    def _episode_finished(self, event: Event) -> None:
        is_success = event["outcome"] == Outcome.SUCCESS
        counts = Counter(
            num_episodes=1,
            num_successes=int(is_success),
            num_steps=event["num_steps"],
            num_intervention_steps=event["num_intervention_steps"],
            num_intervened=int(event["num_intervention_steps"] > 0),
        )
        tally = self._tallies.setdefault(event["stage"], Counter())
        tally.subtract(self._episodes.get((event["stage"], event["episode_id"]), {}))
        tally.update(counts)
        self._episodes[event["stage"], event["episode_id"]] = counts
        station = self._stations.get(event["station"], StationState(name=event["station"], state="connected"))
        self._stations[station.name] = replace(
            station,
            num_episodes=station.num_episodes + 1,
            num_successes=station.num_successes + is_success,
            num_steps=station.num_steps + event["num_steps"],
            episode_id=event["episode_id"],
            t=event["t"],
        )

    def _evaluated(self, event: Event) -> None:
        low, high = event["interval"]
        score = Score(
            iteration=event["iteration"],
            role=event["role"],
            policy=event["policy"],
            episodes=event["episodes"],
            successes=event["successes"],
            interval=(low, high),
            eval_spec=event["eval_spec"],
            simulated_s=event.get("simulated_s"),
        )
        self._scores[score.iteration, score.role] = score
        self._say(event, f"iteration {score.iteration}, {score.role}: {score.successes} of {score.episodes} succeed")

    def _verdict(self, event: Event) -> None:
        names = ("iteration", "verdict", "pairs", "wins", "losses", "p_value", "text")
        verdict = Verdict(
            **{name: event[name] for name in names}, is_promoted=event["promoted"], is_paired=event.get("paired", True)
        )
        self._verdicts[verdict.iteration] = verdict
        self._say(event, f"gate of iteration {verdict.iteration}: {verdict.verdict}. {verdict.text}")

    def _station(self, event: Event) -> None:
        station = self._stations.get(event["station"], StationState(name=event["station"]))
        is_lost = event["state"] == "lost"
        lost = station.num_lost + is_lost
        self._stations[station.name] = replace(station, state=event["state"], text=event["text"], num_lost=lost, t=event["t"])
        self._say(
            event, f"station {station.name} {event['state']}: {event['text']}".rstrip(": "), "warning" if is_lost else "info"
        )

    def _command(self, event: Event) -> None:
        verb, state = event["verb"], event["state"]
        if verb == control.JOG and state != "refused":
            return
        pending = tuple(waiting for waiting in self._run.pending if waiting != verb)
        is_pending = state == "received" or (verb == control.STOP and state == "done")  # a stop is done when the stage is
        phase = {control.PAUSE: RunPhase.PAUSED, control.RESUME: RunPhase.RUNNING}.get(verb, self._run.phase)
        if not self._run.phase.is_over:
            phase = phase if state == "done" else self._run.phase
            self._run = replace(self._run, phase=phase, pending=(*pending, verb) if is_pending else pending)
        if state == "done":
            self._take_effect(verb, event["args"], event)
        who = f" ({event['operator']})" if event.get("operator") else ""
        self._say(event, f"{verb}{who} {state}: {event['text']}".rstrip(": "), "warning" if state == "refused" else "info")

    def _take_effect(self, verb: str, args: Mapping[str, Any], event: Event) -> None:
        """Note what a command changed that no other event tells."""
        run = self._run
        if verb in (control.PIN, control.UNPIN):
            others = tuple(stage for stage in run.pinned if stage != args["stage"])
            self._run = replace(run, pinned=(*others, args["stage"]) if verb == control.PIN else others)
        elif verb == control.SET:
            change = Change(option=args["option"], value=args["value"], iteration=event["iteration"])
            self._run = replace(run, changes=(*run.changes, change))
        elif verb == control.LABEL:
            labels = {episode: said for episode, said in run.labels.items() if episode != event["episode_id"]}
            if args["outcome"] != control.UNKNOWN:
                labels[event["episode_id"]] = args["outcome"]
            self._run = replace(run, labels=labels)
        elif verb in (control.STOP_ROBOT, control.CLEAR):
            station = self._stations.get(args["station"], StationState(name=args["station"], state="connected"))
            self._stations[station.name] = replace(station, is_stopped=verb == control.STOP_ROBOT, t=event["t"])

    def _lease(self, event: Event) -> None:
        self._run = replace(self._run, operator=event["operator"])
        self._say(event, f"{event['operator'] or 'nobody'} steers: {event['text']}".rstrip(": "))

    def _takeover(self, event: Event) -> None:
        station = self._stations.get(event["station"], StationState(name=event["station"], state="connected"))
        has_begun = event["state"] == "began"
        operator = event["operator"] if has_begun else ""
        self._stations[station.name] = replace(station, operator=operator, episode_id=event["episode_id"], t=event["t"])
        what = "takes over" if has_begun else "no longer has in hand"
        self._say(event, f"{event['operator']} {what} {station.name}, step {event['tick']}: {event['text']}".rstrip(": "))

    def _note(self, event: Event) -> None:
        self._say(event, event["text"], event["level"])
