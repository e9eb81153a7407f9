"""The fold from a run's events to its state; takes events one by one and gives a frozen summary at any moment."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from opentau import control, events
from opentau.labelfacts import LabelFacts
from opentau.runstate import (
    Attempt,
    Change,
    Curve,
    EpisodeFacts,
    LogLine,
    Progress,
    RunPhase,
    RunSummary,
    Score,
    StageState,
    StageStatus,
    StationState,
    Verdict,
    duration_text,
    natural_order,
    number_text,
)
from opentau.runtally import FoldState, Played, count_episode, tally_of
from opentau.types import Outcome

LOG_LINES = 1000
CURVE_POINTS = 512
EPISODES = 400
"""The newest ones of every stage are listed."""
COUNTED_EPISODES = 200_000
"""Of one unfinished stage, kept apart so that one that is played again counts once; beyond it the oldest are forgotten."""
RECENT_OUTCOMES = 12

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
        self._last_t = 0.0
        self._num_damaged = 0
        self._stages: dict[str, StageState] = {}
        self._played: dict[str, dict[str, Played]] = {}
        self._tallies: dict[str, Counter[str]] = {}
        self._scores: dict[str, Score] = {}
        self._verdicts: dict[int, Verdict] = {}
        self._labelled_by: dict[int, LabelFacts] = {}
        self._stations: dict[str, StationState] = {}
        self._curves: dict[str, dict[str, list[tuple[int, float]]]] = {}
        self._episodes: dict[str, list[EpisodeFacts]] = {}
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
            events.LABELLED: self._labelled,
            events.STATION: self._station,
            events.LINK: self._link,
            events.COMMAND: self._command,
            events.LEASE: self._lease,
            events.TAKEOVER: self._takeover,
            events.NOTE: self._note,
        }

    def update(self, event: Event) -> None:
        """Take one more event; one that lacks what its kind has is told in the log and otherwise left out."""
        handler = self._handlers.get(event["kind"])
        if handler is None:
            return
        try:
            handler(event)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self._num_damaged += 1
            self._say(event, f"a damaged event {event['kind']!r} was left out: {type(error).__name__} {error}", "warning")
        self._last_t = max(self._last_t, event["t"])

    def summary(self, *, num_torn: int = 0) -> RunSummary:
        """Return everything taken so far; `num_torn` lines never became events."""
        cpu_seconds = sum(stage.cpu_seconds or 0.0 for stage in self._stages.values())
        return replace(
            self._run,
            last_t=self._last_t,
            stages=tuple(self._stages.values()),
            tallies={stage: tally_of(counts) for stage, counts in self._tallies.items()},
            scores=tuple(sorted(map(self._with_tasks, self._scores.values()), key=lambda score: score.iteration)),
            verdicts=tuple(self._verdicts[iteration] for iteration in sorted(self._verdicts)),
            labelled=tuple(self._labelled_by[iteration] for iteration in sorted(self._labelled_by)),
            stations=tuple(self._stations[name] for name in sorted(self._stations, key=natural_order)),
            curves=tuple(
                Curve(stage=stage, metric=metric, points=tuple(points))
                for stage, metrics in self._curves.items()
                for metric, points in metrics.items()
            ),
            episodes=tuple(episode for listed in self._episodes.values() for episode in listed[-EPISODES:]),
            num_damaged=self._num_damaged + num_torn,
            log=tuple(self._log),
            # Stages are known while the run goes on, attempts (with what lies between stages) once they ended.
            cpu_seconds=max(self._run_cpu_seconds, cpu_seconds),
        )

    def encoded(self) -> bytes:
        """Return the whole state, for `decoded`."""
        state = {name: getattr(self, name) for name in FoldState.__annotations__}
        return msgspec.msgpack.encode({k: list(v) if isinstance(v, deque) else v for k, v in state.items()})

    @classmethod
    def decoded(cls, encoded: bytes) -> RunFold:
        """Return a fold that goes on from a state; raises `msgspec.DecodeError` for none."""
        fold, state = cls(), msgspec.msgpack.decode(encoded, type=FoldState)
        for name, value in state.items():
            kept = getattr(fold, name)
            setattr(fold, name, deque(value, kept.maxlen) if isinstance(kept, deque) else value)  # type: ignore[call-overload]
        fold._tallies = {stage: Counter(counts) for stage, counts in fold._tallies.items()}
        return fold

    def _with_tasks(self, score: Score) -> Score:
        """Add what the score's stage said of single tasks."""
        stage = self._stages.get(score.stage)
        said = stage.summary if stage is not None else {}
        tasks = said.get("tasks") or (said.get(score.role) or {}).get("tasks") or {}
        return replace(score, tasks={task: (int(one["successes"]), int(one["episodes"])) for task, one in tasks.items()})

    def _say(self, event: Event, text: str, level: str = "info") -> None:
        self._log.append(LogLine(t=event["t"], level=level, text=text, source=event["kind"]))

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
            attempts=(
                *self._run.attempts,
                Attempt(t=event["t"], command=event["command"], is_resumed=event["resumed"]),
            ),
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
        first = stage.progress
        progress = Progress(
            done=done,
            total=event["total"],
            unit=event["unit"],
            t=t,
            first_done=first.first_done if first else done,
            first_t=first.first_t if first else t,
        )
        self._stages[stage.name] = replace(stage, progress=progress)
        if "machine" in event:
            self._add_points(event["stage"], done, event["machine"])

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
        self._played.pop(stage.name, None)  # where it is done again, it is from its first episode on
        words = "reused" if stage.is_reused else f"finished in {duration_text(event['seconds'])}"
        simple = {name: value for name, value in stage.summary.items() if isinstance(value, int | float | str)}
        facts = ", ".join(f"{name} {number_text(value)}" for name, value in simple.items())
        self._say(event, f"{stage.name} {words}" + (f": {facts}" if facts else ""))

    def _train_metrics(self, event: Event) -> None:
        self._add_points(event["stage"], event["update"], event["metrics"])

    def _add_points(self, stage: str, update: int, metrics: Mapping[str, float]) -> None:
        curves = self._curves.setdefault(stage, {})
        for metric, value in metrics.items():
            points = curves.setdefault(metric, [])
            while points and points[-1][0] >= update:  # resumed from an earlier checkpoint
                points.pop()
            points.append((update, value))
            if len(points) > CURVE_POINTS:
                del points[1:-1:2]

    def _episode_finished(self, event: Event) -> None:
        stage, episode_id, name = event["stage"], event["episode_id"], event["station"]
        playback = event.get("playback") or {}
        steps, helped, human_s = event["num_steps"], event["num_intervention_steps"], playback.get("human_s", 0.0)
        played: Played = (event["outcome"], steps, helped, human_s, event.get("task_id", ""))
        if stage not in self._played:
            self._played[stage], self._tallies[stage] = {}, Counter()
        of_stage, tally = self._played[stage], self._tallies[stage]
        if (before := of_stage.pop(episode_id, None)) is not None:
            count_episode(tally, before, -1)
        count_episode(tally, played, 1)
        of_stage[episode_id] = played
        if len(of_stage) > COUNTED_EPISODES:
            del of_stage[next(iter(of_stage))]
        listed = self._episodes.setdefault(stage, [])
        if len(listed) >= 2 * EPISODES:
            del listed[:-EPISODES]
        listed.append(
            EpisodeFacts(
                stage=stage,
                episode_id=episode_id,
                outcome=event["outcome"],
                num_steps=steps,
                num_intervention_steps=helped,
                station=name,
                t=event["t"],
                task_id=event.get("task_id", ""),
            )
        )
        station = self._stations.get(name, StationState(name=name, state="connected"))
        timing = playback.get("timing")
        self._stations[name] = replace(
            station,
            num_episodes=station.num_episodes + 1,
            num_successes=station.num_successes + (event["outcome"] == Outcome.SUCCESS),
            num_steps=station.num_steps + steps,
            num_clipped=station.num_clipped + event.get("num_clipped_actions", 0),
            num_fallbacks=station.num_fallbacks + event.get("num_fallbacks", 0),
            num_refused=station.num_refused + event.get("num_refused_chunks", 0),
            num_held=station.num_held + playback.get("num_held", 0),
            jitter_ms=timing["jitter_p99_ms"] if timing else station.jitter_ms,
            human_s=station.human_s + human_s,
            recent=(station.recent + event["outcome"][:1])[-RECENT_OUTCOMES:],
            episode_id=event["episode_id"],
            t=event["t"],
        )

    def _labelled(self, event: Event) -> None:
        facts = LabelFacts.from_event(event)
        self._labelled_by[facts.iteration] = facts

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
            stage=event["stage"],
        )
        self._scores[f"{score.iteration} {score.role}"] = score
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
        self._stations[station.name] = replace(
            station, state=event["state"], text=event["text"], num_lost=lost, t=event["t"], link_t=0.0, hold=""
        )
        self._say(
            event, f"station {station.name} {event['state']}: {event['text']}".rstrip(": "), "warning" if is_lost else "info"
        )

    def _link(self, event: Event) -> None:
        station = self._stations.get(event["station"], StationState(name=event["station"], state="connected"))
        self._stations[station.name] = replace(
            station,
            t=event["t"],
            link_t=event["t"],
            hold=event["hold"],
            round_trip_ms=event.get("round_trip_ms", station.round_trip_ms),
            round_trip_p95_ms=event.get("round_trip_p95_ms", station.round_trip_p95_ms),
            answer_ms=event.get("answer_ms", station.answer_ms),
            obs_age_ms=event.get("obs_age_ms", station.obs_age_ms),
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
