"""The state of a run as its events tell it: stages, scores, verdicts, stations and curves, for status, screen and report."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opentau import events
from opentau.intervals import paired_interval, unpaired_interval
from opentau.labelfacts import LabelFacts

COLLECT = "collect"
"""The work of the stages whose interventions count: 'collect-1' is iteration 1's."""


class RunPhase(enum.StrEnum):
    """What a run does now, as far as its events tell; a killed run looks running until it is resumed."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    FINISHED = "finished"
    FAILED = "failed"

    @property
    def is_over(self) -> bool:
        return self in (RunPhase.STOPPED, RunPhase.FINISHED, RunPhase.FAILED)


class StageStatus(enum.StrEnum):
    """How far a stage is."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How much of a stage is done, and since when this attempt counts (a resumed stage does not start at zero)."""

    done: int
    total: int
    unit: str
    """What is counted, for example 'episodes'."""
    t: float
    """When `done` was reported, seconds since the epoch."""
    first_done: int
    first_t: float

    def remaining_s(self, now: float) -> float | None:
        """Return the seconds left at the rate so far, None before there is a rate."""
        if self.done <= self.first_done or self.t <= self.first_t:
            return None
        seconds_each = (self.t - self.first_t) / (self.done - self.first_done)
        return max(0.0, (self.total - self.done) * seconds_each - (now - self.t))


@dataclass(frozen=True, slots=True, kw_only=True)
class StageState:
    """One stage of the plan."""

    name: str
    """Unique in the run, for example 'collect-1'."""
    status: StageStatus = StageStatus.WAITING
    started_t: float = 0.0
    """When the current attempt began, seconds since the epoch."""
    seconds: float | None = None
    """What the finished work took."""
    cpu_seconds: float | None = None
    """User and system time of the finished work, where it is known."""
    is_reused: bool = False
    """Whether a finished result was found instead of made."""
    progress: Progress | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)
    """What the stage says about its result."""

    @property
    def work(self) -> str:
        """The name without the iteration: 'collect'."""
        return re.sub(r"-\d+$", "", self.name)

    @property
    def iteration(self) -> int | None:
        """The number that ends the name; None outside the cycle."""
        return iteration_of(self.name)

    def elapsed_s(self, now: float) -> float | None:
        """Return the seconds of the finished or running work, None before it."""
        return max(0.0, now - self.started_t) if self.status is StageStatus.RUNNING else self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The episodes of one stage, each counted once however often a kill made it play."""

    num_episodes: int = 0
    num_successes: int = 0
    num_steps: int = 0
    """Control steps."""
    num_intervention_steps: int = 0
    """Control steps in which somebody else than the policy acted."""
    num_intervened: int = 0
    """Episodes with at least one such step."""
    human_s: float = 0.0
    """Seconds that persons gave to episodes of robots."""
    outcomes: Mapping[str, int] = field(default_factory=dict)
    """Episodes by `Outcome`."""
    tasks: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Task id to (successes, episodes), where the events tell it."""

    @property
    def intervention_rate(self) -> float:
        """Return the share of control steps that were interventions."""
        return self.num_intervention_steps / max(1, self.num_steps)

    @property
    def steps_per_success(self) -> float | None:
        return self.num_steps / self.num_successes if self.num_successes else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How often a policy succeeded in one evaluation."""

    iteration: int
    role: str
    """`events.CANDIDATE`, `INCUMBENT` or `FINAL`."""
    policy: str
    """Id of the checkpoint."""
    episodes: int
    successes: int
    interval: tuple[float, float]
    """95 % interval of the success rate."""
    eval_spec: str
    """Id of the states, seeds, limits, versions and rendering behind the number."""
    simulated_s: float | None
    """Simulated time of all its episodes, seconds; None where it is not known."""
    stage: str = ""
    """Where it was measured."""
    tasks: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Task id to (successes, episodes)."""

    @property
    def rate(self) -> float:
        return self.successes / max(1, self.episodes)

    @property
    def successes_per_hour(self) -> float | None:
        """Return successes per simulated hour."""
        return 3600 * self.successes / self.simulated_s if self.simulated_s else None

    def to_dict(self) -> dict[str, Any]:
        """Return what `opentau status --json` prints of a score."""
        return {
            "policy": self.policy,
            "episodes": self.episodes,
            "successes": self.successes,
            "interval": list(self.interval),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the gate said about a candidate."""

    iteration: int
    verdict: str
    """'better', 'not better' or 'undecided'."""
    pairs: int
    wins: int
    """Pairs in which only the candidate succeeded; unpaired: its successes."""
    losses: int
    """Pairs in which only the incumbent succeeded; unpaired: its successes."""
    p_value: float
    text: str
    """The explanation in words."""
    is_promoted: bool
    is_paired: bool = True
    """Whether both policies met the same placements."""

    @property
    def difference(self) -> tuple[float, float, float]:
        """Return candidate minus incumbent, a share of the pairs, and its 95 % interval."""
        if not self.pairs:
            return 0.0, -1.0, 1.0
        interval = paired_interval if self.is_paired else unpaired_interval
        return interval(self.wins, self.losses, self.pairs)

    @property
    def counts(self) -> str:
        """Return what the verdict rests on, in a few words."""
        if self.is_paired:
            return f"{self.wins} won, {self.losses} lost of {self.pairs} pairs"
        return f"{self.wins} and {self.losses} successes in {self.pairs} episodes each"


@dataclass(frozen=True, slots=True, kw_only=True)
class StationState:
    """One station: a simulator or a robot."""

    name: str
    state: str = "started"
    text: str = ""
    num_episodes: int = 0
    num_successes: int = 0
    num_steps: int = 0
    num_lost: int = 0
    """How often it died or went silent."""
    operator: str = ""
    """Who has it in hand; '' for nobody."""
    is_stopped: bool = False
    """Whether somebody stopped it and nobody cleared it."""
    episode_id: str = ""
    """What it played last, as far as the events tell."""
    t: float = 0.0
    """When it was last heard of, seconds since the epoch."""
    num_clipped: int = 0
    """Actions that were cut to limits (clamps)."""
    num_fallbacks: int = 0
    """Chunks that stood in for action tokens which spelled none."""
    num_refused: int = 0
    """Chunks that came too late or answered something else."""
    num_held: int = 0
    """Ticks in which the policy had no action to play."""
    jitter_ms: float | None = None
    """How late the ticks of its last episode began, 99th percentile; None where it is not measured."""
    human_s: float = 0.0
    """Seconds that persons gave to its episodes."""
    recent: str = ""
    """First letters of its last outcomes, the newest last."""
    link_t: float = 0.0
    """When it last told how its link does, seconds since the epoch; 0 where it does not, or is not there."""
    hold: str = ""
    """How a robot holds that has no fresh action; '' while it has one."""
    round_trip_ms: float | None = None
    """On the way, there and back, median of its newest answers; None before there are any, as below."""
    round_trip_p95_ms: float | None = None
    answer_ms: float | None = None
    """Waiting and inference, median."""
    obs_age_ms: float | None = None
    """How old what it acts on was when the answer came, median."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeFacts:
    """One finished episode."""

    stage: str
    episode_id: str
    """Unique within its stage."""
    outcome: str
    num_steps: int
    num_intervention_steps: int
    station: str
    t: float
    task_id: str = ""
    """'' where the events do not tell it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One start of the run."""

    t: float
    command: str
    """With its options."""
    is_resumed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An option that somebody changed while the run went on."""

    option: str
    value: str | float
    iteration: int
    """The first one in which it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One metric of one training stage, thinned to a bounded number of points."""

    stage: str
    metric: str
    """For example 'train/loss'."""
    points: tuple[tuple[int, float], ...]
    """(update, value)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line of the run's story."""

    t: float
    level: str
    """'info', 'warning' or 'error'."""
    text: str
    source: str = ""
    """Kind of the event that it tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Eta:
    """When a run will be done."""

    seconds: float
    """What is left, of the stages that can be estimated."""
    num_unknown: int
    """Stages left that nothing is known about; the estimate is a lower bound unless this is zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """Everything a run's events say, at one moment."""

    run_id: str = ""
    command: str = ""
    phase: RunPhase = RunPhase.WAITING
    error: str = ""
    """Why the run failed."""
    pending: tuple[str, ...] = ()
    """Commands that the run has received and not yet carried out."""
    operator: str = ""
    """Who holds the lease and steers; '' for nobody."""
    pinned: tuple[str, ...] = ()
    """Stages whose checkpoints nothing prunes."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What people said of episodes, by episode id; what was taken back is left out."""
    changes: tuple[Change, ...] = ()
    """Options that people changed, oldest first."""
    last_t: float = 0.0
    """Time of the newest event, seconds since the epoch."""
    stages: tuple[StageState, ...] = ()
    """In planned order."""
    expected_s: Mapping[str, float] = field(default_factory=dict)
    """What the plan expects of its stages."""
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    """Episodes by stage."""
    scores: tuple[Score, ...] = ()
    """By iteration, then in the order of evaluation."""
    verdicts: tuple[Verdict, ...] = ()
    """By iteration."""
    stations: tuple[StationState, ...] = ()
    """By name."""
    curves: tuple[Curve, ...] = ()
    labelled: tuple[LabelFacts, ...] = ()
    """How frames were labelled, by iteration."""
    episodes: tuple[EpisodeFacts, ...] = ()
    """The newest ones of every stage, oldest first."""
    attempts: tuple[Attempt, ...] = ()
    """Every start of the run."""
    num_damaged: int = 0
    """Events that could not be used: torn lines, and ones that lack what their kind has."""
    log: tuple[LogLine, ...] = ()
    """The newest lines, oldest first."""
    cpu_seconds: float = 0.0
    """User and system time of the finished work."""

    @property
    def current(self) -> StageState | None:
        """Return the stage that runs, or failed."""
        live = [stage for stage in self.stages if stage.status in (StageStatus.RUNNING, StageStatus.FAILED)]
        return live[-1] if live else None

    @property
    def iterations(self) -> tuple[int, ...]:
        """Return the numbers of the planned iterations."""
        return tuple(sorted({stage.iteration for stage in self.stages if stage.iteration is not None}))

    @property
    def iteration(self) -> int | None:
        """Return the iteration that runs, or ran last."""
        begun = [stage for stage in self.stages if stage.status is not StageStatus.WAITING and stage.iteration is not None]
        return begun[-1].iteration if begun else None

    def scores_of(self, role: str) -> tuple[Score, ...]:
        return tuple(score for score in self.scores if score.role == role)

    def labels_of(self, iteration: int) -> LabelFacts | None:
        return next((facts for facts in self.labelled if facts.iteration == iteration), None)

    def stage(self, name: str) -> StageState | None:
        return next((stage for stage in self.stages if stage.name == name), None)

    def verdict_of(self, iteration: int) -> Verdict | None:
        return next((verdict for verdict in self.verdicts if verdict.iteration == iteration), None)

    def seconds(self, now: float) -> float:
        """Return the time the run has worked, pauses between attempts left out."""
        return sum(stage.elapsed_s(now) or 0.0 for stage in self.stages)

    def eta(self, now: float) -> Eta | None:
        """Return what is left: the current stage at its rate, later ones like their finished siblings or as planned."""
        if self.phase is not RunPhase.RUNNING:
            return None
        left = [self.remaining_s(stage, now) for stage in self.stages if stage.status is not StageStatus.FINISHED]
        known = [seconds for seconds in left if seconds is not None]
        return Eta(seconds=sum(known), num_unknown=len(left) - len(known))

    def remaining_s(self, stage: StageState, now: float) -> float | None:
        """Return the seconds that a stage still needs, None where nothing is known."""
        rated = stage.progress.remaining_s(now) if stage.progress and stage.status is StageStatus.RUNNING else None
        if rated is not None:
            return rated
        siblings = [s.seconds for s in self.stages if s.work == stage.work and s.seconds is not None and s is not stage]
        expected = sum(siblings) / len(siblings) if siblings else self.expected_s.get(stage.name)
        if expected is None or stage.status is StageStatus.WAITING:
            return expected
        return max(0.0, expected - (now - stage.started_t))

    def to_status(self) -> dict[str, Any]:
        """Return what `opentau status --json` prints: evaluated iterations, and final scores on the official states."""
        return {
            "iterations": [self._iteration_status(score) for score in self.scores_of(events.CANDIDATE)],
            "final": [score.to_dict() for score in self.scores_of(events.FINAL)],
        }

    def _iteration_status(self, score: Score) -> dict[str, Any]:
        verdict = self.verdict_of(score.iteration)
        finished = [stage for stage in self.stages if stage.iteration == score.iteration and stage.seconds is not None]
        return {
            **score.to_dict(),
            "verdict": verdict.verdict if verdict else None,
            "stage_s": {stage.work: stage.seconds for stage in finished},
        }


def iteration_of(stage: str) -> int | None:
    """Return the iteration that a stage name ends with, None outside the cycle."""
    number = re.search(r"-(\d+)$", stage)
    return int(number.group(1)) if number else None


def natural_order(name: str) -> tuple[tuple[int, str], ...]:
    """Return a sort key that puts 'station-2' before 'station-10'."""
    return tuple((int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name))


def thinned(points: Sequence[tuple[int, float]], num_points: int) -> list[tuple[int, float]]:
    """Return at most `num_points` of the points, evenly chosen, first and last included; at least two are asked for."""
    if len(points) <= num_points:
        return list(points)
    last = len(points) - 1
    return [points[round(i * last / (num_points - 1))] for i in range(num_points)]


def duration_text(seconds: float) -> str:
    """Return a duration in two units at most: '42 s', '3 min 05 s', '2 h 10 min'."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def number_text(value: float | str) -> str:
    """Return a number with three significant digits, an integer or a text as it is."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
