"""What a rollout session can be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from opentau.errors import OptionError
from robot_bridge.playing.chunking import ChunkingOptions, num_needed, require_bridgeable

LOCAL_PLACE = {"target": "opentau.rollout.fleet:LocalPlace"}
"""Spec of this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutOptions:
    """Stations, what they play, and how patient the server is; plug-ins are {"target": "pkg.mod:Name", "args": {…}}."""

    env: Mapping[str, Any]
    """Spec of the environment."""
    tasks: Mapping[str, Mapping[str, Any]]
    """Task id to the arguments that are added to the environment's for this task."""
    interpreter: str = ""
    """The Python that runs the stations: one that has the environment's packages; '' is this one."""
    num_stations: int = 2
    """Stations that the session starts; fewer episodes start fewer, 0 leaves the work to stations that dial in."""
    fleet: Mapping[str, Any] = field(default_factory=lambda: LOCAL_PLACE)
    """Spec of the place where they run."""
    expert: Mapping[str, Any] | None = None
    """Spec of the expert that demonstrates and intervenes."""
    supervisor: Mapping[str, Any] | None = None
    """Spec of the supervisor that lets the expert take over."""
    perturbation: Mapping[str, Any] | None = None
    """Spec of what disturbs demonstrations."""
    execute_horizon: int = 8
    """Control steps played before the next chunk."""
    delay_ticks: int = 0
    """Control steps between an observation and the first step that its chunk may decide; beyond what can be bridged the robot
    holds."""
    chunking: ChunkingOptions | None = None
    """How chunks follow each other; None has a policy continue what is committed, refuses a delay that needs more than it
    predicts, and reports nothing about seams."""
    batch_size: int = 8
    """Most rows of one inference call."""
    gather_ms: float = 2.0
    """How long a first request waits for others; not at all when every playing station waits."""
    max_losses: int = 3
    """How often one plan may lose its station, and one station may fail to start, before the session gives up."""
    max_episode_errors: int = 5
    """Episodes of one run that may end in an error before the run gives up."""
    station_silence_s: float = 60.0
    """Silence after which a station is replaced."""
    build_silence_s: float = 900.0
    """The same while a station starts or builds an environment."""
    answer_timeout_s: float = 120.0
    """How long a station waits for a chunk or an acknowledgement."""
    max_open_envs: int = 4
    """Environments that a station keeps open."""
    host: str = "127.0.0.1"
    """Address to listen on; a loopback one unless there are `keys`."""
    keys: str = ""
    """Name of this machine's key pair (`opentau keys new`): only trusted keys come in then. Empty for links without keys."""
    insecure: str = ""
    """The sentence that lets a network in without keys, `robot_bridge.wire.link.INSECURE`; empty otherwise."""
    control_port: int = 0
    """0 takes any that is free."""
    inference_port: int = 0
    """0 takes any that is free."""
    session: str = ""
    """Names the session, so that stations find it again after a restart; '' draws a name that was never used."""
    telemetry_port: int | None = None
    """Port on which stations tell how it goes, and viewers listen on another; None offers none, 0 takes any that is free."""

    def __post_init__(self) -> None:
        if self.num_stations < 0:
            raise OptionError(f"num_stations is {self.num_stations}; it must be 0 or more")
        for name in ("execute_horizon", "batch_size", "max_losses", "max_open_envs"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} is {getattr(self, name)}; it must be at least 1")
        require_bridgeable(self.delay_ticks, execute_horizon=self.execute_horizon, chunking=self.chunking)
        if not self.tasks:
            raise OptionError("a rollout needs at least one task; set `tasks`")

    @property
    def num_needed(self) -> int:
        """Actions that a chunk must have."""
        return num_needed(self.delay_ticks, execute_horizon=self.execute_horizon, chunking=self.chunking)
