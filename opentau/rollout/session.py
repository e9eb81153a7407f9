"""A rollout session: policies, a server and a fleet that together turn plans into results."""

from __future__ import annotations

import dataclasses
import queue
import secrets
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import zmq

from opentau.config import build
from opentau.errors import OptionError, StationError, near_matches
from opentau.events import EPISODE_FINISHED, NOTE, STAGE_PROGRESS, STATION, EventLog
from opentau.protocols import ContinuingPolicy, Critic, NormalisingPolicy, Policy
from opentau.rollout.desk import StationDesk
from opentau.rollout.door import Door, open_door
from opentau.rollout.fleet import Departure, Fleet
from opentau.rollout.health import HealthTeller
from opentau.rollout.inference import InferenceServer
from opentau.rollout.options import RolloutOptions
from opentau.rollout.schedule import LostPlan, PlanQueue
from opentau.rollout.server import (
    Connected,
    ControlServer,
    Failed,
    Finished,
    Lost,
    Refused,
    ServerEvent,
    Silent,
    raise_failure,
)
from opentau.types import Actor, Episode, EpisodePlan, EpisodeResult, Outcome
from robot_bridge.config import StationConfig
from robot_bridge.playing.chunking import num_committed
from robot_bridge.station import EXIT_UNUSABLE
from robot_bridge.wire.link import Plane
from robot_bridge.wire.telemetry import TelemetryRelay

POLL_S = 0.05
ATTENTIVE_S = 0.01
"""The same while an operator waits for something."""
JOIN_S = 30.0

OnEpisode = Callable[[EpisodeResult, Episode | None], None]


class RolloutSession:
    """Serve policies to stations for as long as the context is open; leaves no process behind."""

    def __init__(
        self,
        options: RolloutOptions,
        *,
        policies: Mapping[str, Policy],
        critic: Critic | None = None,
        events: EventLog | None = None,
        stage: str = "rollout",
        iteration: int = 0,
        log_dir: Path | None = None,
        live_dir: Path | None = None,
        on_poll: Callable[[], None] = lambda: None,
    ) -> None:
        """`policies`: policy id of the plans to policy. `log_dir` keeps what stations say; None throws it away.

        `on_poll` is called every few hundredths of a second while plans are played: the moment to ask something of `desk`.
        `live_dir`: see there.
        """
        for policy_id, policy in policies.items():
            _require_long_enough(policy_id, policy, options)
        self.options = options
        self._policies = dict(policies)
        self._critic = critic
        self._events = events
        self._stage = stage
        self._iteration = iteration
        self._log_dir = log_dir
        self._live_dir = live_dir
        self._on_poll = on_poll

    def __enter__(self) -> RolloutSession:
        self._temporary = tempfile.TemporaryDirectory() if self._log_dir is None else None
        log_dir = self._log_dir or Path(self._temporary.name)  # type: ignore[union-attr]
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._door: Door | None = None
        try:
            self._open(log_dir)
        except BaseException:
            if self._door is not None:
                self._door.close()
            self._context.destroy(linger=0)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        has_failed = kind is not None and issubclass(kind, Exception)
        try:
            self._control.stop(says_goodbye=not has_failed)
            self._inference.stop()
            if self._telemetry is not None:
                self._telemetry.stop()
        finally:
            stopped = list(self._fleet.pids())
            self._fleet.stop()
        for thread in (self._control, self._inference):
            thread.join(JOIN_S)
        if self._door is not None:
            self._door.close()
        if not (self._control.is_alive() or self._inference.is_alive()):
            self._context.term()
        self.desk.close()
        for station_id in stopped:
            self._emit(STATION, station=station_id, state="stopped", text="the session is over")
        if self._temporary is not None:
            self._temporary.cleanup()

    def run(
        self,
        plans: Sequence[EpisodePlan],
        *,
        on_episode: OnEpisode | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        recorded: Collection[str] = (),
    ) -> list[EpisodeResult]:
        """Play the plans and return their results in plan order; fewer where `should_stop` said so.

        `on_episode` is called in this thread as episodes arrive, in any order, once each; a station with a spool keeps its
        episode until that call returned. `recorded`: episodes that such a station may bring once more.
        Raises `InterfaceMismatch`, `PolicyError`, and `StationError` when stations or episodes fail more often than the
        options allow.
        """
        self._check(plans)
        results: dict[str, EpisodeResult] = {}
        num_errors = 0
        waiting = PlanQueue(plans, recorded=recorded)
        self._control.submit(waiting)
        for station_id in self._fleet.start(min(self.options.num_stations, len(plans))):
            self._started(station_id)
        while len(results) < len(plans) and not should_stop():
            self._on_poll()
            for departure in self._fleet.departures():
                self._replace(departure)
            event = self._next_event()
            if isinstance(event, Finished):
                if event.plans is not waiting:
                    continue  # of a run that was stopped
                result = event.played.result
                num_errors += result.outcome is Outcome.ERROR
                self._require_few_errors(num_errors, result)
                if on_episode is not None:
                    on_episode(result, event.played.episode)
                self._control.confirm(result.plan.episode_id)
                results[result.plan.episode_id] = result
                self._report(event, done=len(results), total=len(plans))
            elif event is not None:
                self._handle(event)
        if len(results) < len(plans):
            self._control.submit(PlanQueue(()))
        return [results[plan.episode_id] for plan in plans if plan.episode_id in results]

    def station_config(self, station_id: str) -> StationConfig:
        """Return what a station needs that is started elsewhere, by hand: `python -P -m robot_bridge.station FILE`."""
        return dataclasses.replace(self._template, station_id=station_id)

    @property
    def viewer_endpoint(self) -> str | None:
        """Where `robot_bridge.wire.telemetry.TelemetryViewer` listens; None where `telemetry_port` is None."""
        return None if self._telemetry is None else self._telemetry.viewer_endpoint

    def station_pids(self) -> dict[str, int]:
        """Return the process id of every running station."""
        return self._fleet.pids()

    def _open(self, log_dir: Path) -> None:
        options = self.options
        session = self.session_id = options.session or secrets.token_hex(8)
        door = self._door = open_door(self._context, options, emit=self._emit)
        control, control_endpoint = door.bind(Plane.CONTROL, port=options.control_port)
        inference, inference_endpoint = door.bind(Plane.INFERENCE, port=options.inference_port)
        self._control = ControlServer(
            control,
            session=session,
            interfaces={policy_id: policy.interface for policy_id, policy in self._policies.items()},
            station_silence_s=options.station_silence_s,
            build_silence_s=options.build_silence_s,
            statistics={
                policy_id: policy.statistics_id
                for policy_id, policy in self._policies.items()
                if isinstance(policy, NormalisingPolicy)
            },
            guard=door.guard(Plane.CONTROL),
        )
        self.desk = StationDesk(session=session, steer=self._control.steer, emit=self._emit, live_dir=self._live_dir)
        self._control.on_steered, self._control.on_shown = self.desk.answered, self.desk.shown
        self._control.on_health = HealthTeller(self._emit).take
        self._inference = InferenceServer(
            inference,
            session=session,
            policies=self._policies,
            critic=self._critic,
            batch_size=options.batch_size,
            gather_s=options.gather_ms / 1000,
            num_playing=lambda: self._control.num_playing_policies,
            on_error=lambda error: self._control.events.put(Failed(error)),
            on_refused=lambda text: self._control.events.put(Refused(text)),
            guard=door.guard(Plane.INFERENCE),
        )
        self._telemetry = None
        if options.telemetry_port is not None:
            self._telemetry = TelemetryRelay(self._context, host=options.host, station_port=options.telemetry_port)
        self._template = StationConfig(
            session=session,
            station_id="",
            control_endpoint=control_endpoint,
            inference_endpoint=inference_endpoint,
            env=options.env,
            interpreter=options.interpreter,
            tasks=options.tasks,
            expert=options.expert,
            supervisor=options.supervisor,
            perturbation=options.perturbation,
            execute_horizon=options.execute_horizon,
            delay_ticks=options.delay_ticks,
            chunking=options.chunking,
            max_open_envs=options.max_open_envs,
            answer_timeout_s=options.answer_timeout_s,
            server_silence_s=options.station_silence_s,
            telemetry_endpoint=self._telemetry.station_endpoint if self._telemetry else None,
            secret_file=door.secret_file,
            server_public_key=door.public_key,
        )
        self._fleet = Fleet(self._template, place=build(options.fleet), log_dir=log_dir)
        self._control.start()
        self._inference.start()
        if self._telemetry is not None:
            self._telemetry.start()

    def _check(self, plans: Sequence[EpisodePlan]) -> None:
        """Refuse plans that these options cannot play, before anything starts."""
        options = self.options
        for plan in plans:
            where = f"episode {plan.episode_id}"
            if plan.task_id not in options.tasks:
                raise OptionError(f"{where}: unknown task {plan.task_id!r}.{near_matches(plan.task_id, options.tasks)}")
            if plan.actor is Actor.POLICY and plan.policy_id not in self._policies:
                raise OptionError(f"{where}: unknown policy {plan.policy_id!r}.{near_matches(plan.policy_id, self._policies)}")
            if (plan.actor is Actor.EXPERT or plan.is_supervised) and options.expert is None:
                raise OptionError(f"{where} needs an expert; set `expert` to one for {plan.task_id}")
            if plan.is_supervised and (options.supervisor is None or plan.actor is Actor.EXPERT or not plan.is_recorded):
                raise OptionError(
                    f"{where} is supervised: that takes a `supervisor`, a policy that acts, and a recording; "
                    "evaluation never intervenes"
                )

    def _next_event(self) -> ServerEvent | None:
        try:
            return self._control.events.get(timeout=ATTENTIVE_S if self.desk.is_busy else POLL_S)
        except queue.Empty:
            return None

    def _handle(self, event: ServerEvent) -> None:
        if isinstance(event, Failed):
            raise_failure(event.error)
        elif isinstance(event, Connected):
            self._fleet.note_welcome(event.station_id)
            self._emit(STATION, station=event.station_id, state="connected", text="")
        elif isinstance(event, Silent):
            if not self._fleet.kill(event.station_id):  # somebody else's: another one plays its episode
                self._control.remove(event.station_id)
                self._emit(STATION, station=event.station_id, state="lost", text="silent for too long")
                self.desk.departed(event.station_id, "silent for too long")
        elif isinstance(event, Lost):
            self._require_few_losses(event.lost, event.station_id)
        elif isinstance(event, Refused):
            self._emit(NOTE, level="warning", text=f"a message was refused: {event.text}")

    def _started(self, station_id: str) -> None:
        self._control.expect(station_id)
        self._emit(STATION, station=station_id, state="started", text="")

    def _replace(self, departure: Departure) -> None:
        """Start another station where one departed, unless that is hopeless."""
        why = f"exit code {departure.exit_code}" if departure.exit_code >= 0 else f"signal {-departure.exit_code}"
        self._emit(STATION, station=departure.station_id, state="lost", text=why)
        self.desk.departed(departure.station_id, why)
        self._raise_pending_failure()
        is_hopeless = departure.exit_code == EXIT_UNUSABLE or departure.num_failed_starts > self.options.max_losses
        if departure.num_failed_starts > 0 and is_hopeless:
            raise StationError(f"{departure.station_id} cannot start ({why}): {departure.last_lines or 'it said nothing'}")
        self._control.remove(departure.station_id)
        station_id = self._fleet.replace(departure.slot)
        self._started(station_id)
        self._emit(STATION, station=station_id, state="replaced", text=f"takes the place of {departure.station_id}")

    def _raise_pending_failure(self) -> None:
        """Raise what the server refused a station for, before its exit is taken for a crash."""
        waiting = []
        while not self._control.events.empty():
            waiting.append(self._control.events.get())
        for event in waiting:
            if isinstance(event, Failed):
                raise_failure(event.error)
            self._control.events.put(event)

    def _require_few_losses(self, lost: LostPlan, station_id: str) -> None:
        if lost.num_losses > self.options.max_losses:
            raise StationError(
                f"episode {lost.plan.episode_id} lost its station {lost.num_losses} times; the limit is "
                f"{self.options.max_losses}. The last one, {station_id}, said: "
                + (self._fleet.last_lines(station_id) or "nothing (was it killed for want of memory?)")
            )

    def _require_few_errors(self, num_errors: int, result: EpisodeResult) -> None:
        if num_errors > self.options.max_episode_errors:
            raise StationError(
                f"{num_errors} episodes ended in an error; the limit is {self.options.max_episode_errors}. "
                f"The last one, {result.plan.episode_id}: {result.message}"
            )

    def _report(self, event: Finished, *, done: int, total: int) -> None:
        result = event.played.result
        self.desk.note_played(event.station_id, result.plan.episode_id)
        self._emit(
            EPISODE_FINISHED,
            stage=self._stage,
            episode_id=result.plan.episode_id,
            outcome=str(result.outcome),
            num_steps=result.num_steps,
            num_intervention_steps=result.num_intervention_steps,
            station=event.station_id,
            task_id=result.plan.task_id,
            num_clipped_actions=event.played.num_clipped_actions,
            num_fallbacks=event.played.num_fallbacks,
            num_refused_chunks=event.played.num_refused_chunks,
            **({} if event.played.report is None else {"playback": dataclasses.asdict(event.played.report)}),
        )
        self._emit(STAGE_PROGRESS, stage=self._stage, iteration=self._iteration, done=done, total=total, unit="episodes")

    def _emit(self, kind: str, **fields: object) -> None:
        if self._events is not None:
            self._events.emit(kind, **fields)


def _require_long_enough(policy_id: str, policy: Policy, options: RolloutOptions) -> None:
    """Check the policy's half of the handshake: a chunk covers the delay before it and what is played of it."""
    needed = options.num_needed
    if policy.action_horizon < needed:
        raise OptionError(
            f"policy {policy_id!r} predicts {policy.action_horizon} actions; execute_horizon + delay_ticks is {needed}. "
            f"Set execute_horizon to at most {policy.action_horizon - needed + options.execute_horizon}"
        )
    if options.num_stations and isinstance(policy, ContinuingPolicy):
        committed = num_committed(
            options.delay_ticks,
            execute_horizon=options.execute_horizon,
            action_horizon=policy.action_horizon,
            chunking=options.chunking,
        )
        if committed > policy.max_committed:
            raise OptionError(
                f"policy {policy_id!r} continues at most {policy.max_committed} committed actions; delay_ticks is {committed}. "
                "Train with a larger policy.max_committed, set inference.committed=guided, choose chunking.mode=blend, or "
                "ask without delay"
            )
