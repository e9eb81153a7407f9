"""How an episode was played, in numbers: chunks, seams, holds and, on a robot, the rate of its loop."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Seams:
    """How rough an episode's seams are; 1 is as rough as the roughest place within a chunk."""

    num_seams: int
    """Changes from one chunk to another, or between a chunk and holding."""
    velocity_ratio: float | None
    """Largest |Δaction| at a seam over the largest within a chunk; None where chunks stood still."""
    acceleration_ratio: float | None
    """The same of |Δ²action|."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How well a loop kept its rate."""

    num_ticks: int
    num_missed: int
    """Deadlines at which nothing was played, because what came before took too long."""
    jitter_p50_ms: float
    """How late ticks began."""
    jitter_p99_ms: float
    jitter_max_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaybackReport:
    """Travels with an episode where it is asked for, and always with a robot's."""

    seams: Seams | None
    """None without a policy."""
    delay_ticks: int = 0
    """The delay that was reckoned with last."""
    num_held: int = 0
    """Ticks in which the policy had no action to play."""
    num_stale: int = 0
    """Chunks that answered an earlier request."""
    num_foreign: int = 0
    """Chunks of another episode."""
    num_late: int = 0
    """Chunks whose ticks were over when they came."""
    num_unanswered: int = 0
    """Requests that were given up."""
    timing: Timing | None = None
    """Of the loop, on a robot."""
    is_first_run: bool = False
    """Whether the robot moved slowly because this checkpoint had never run on it."""
    human_s: float = 0.0
    """Seconds that a person gave to a robot's episode: setting its scene up, and acting in it."""
