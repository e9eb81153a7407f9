"""The policy's side of one episode: when it is asked, how long it may take, and which of its actions is next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from opentau.errors import PolicyError
from opentau.types import EpisodePlan, Observation, PolicyRequest
from robot_bridge.playing.chunking import ChunkingOptions, DelayEstimate, SeamMeter, held
from robot_bridge.playing.executor import ChunkExecutor
from robot_bridge.playing.track import EpisodeTrack
from robot_bridge.wire.payloads import ChunkReply

LOST_AFTER_S = 2.0
"""Time beyond three usual delays after which a request, or its reply, counts as lost in real time."""


class PolicyLink(Protocol):
    """The player's way to a served policy."""

    def ask(self, plan: EpisodePlan, request: PolicyRequest, *, seq: int) -> None:
        """Send an observation and return at once."""
        ...

    def next_reply(self) -> ChunkReply:
        """Wait for the next chunk of any request; raises `LinkError` when none comes in time."""
        ...

    def arrived_reply(self) -> ChunkReply | None:
        """Return the next chunk that is here already, or None; never waits."""
        ...

    def next_seq(self) -> int:
        """Return a request number that was never used before."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaybackOptions:
    """How a station plays chunks."""

    execute_horizon: int
    delay_ticks: int
    """Injected in virtual time; in real time what is reckoned with until a delay was measured."""
    chunking: ChunkingOptions = field(default_factory=ChunkingOptions)
    is_step: tuple[bool, ...] = ()
    """`Interface.is_step`."""
    control_hz: float


class PolicyPlayback:
    """Ask, wait and play by the executor's rules.

    In virtual time replies are waited for, as long as it takes, in the tick in which they are due. In real time, which is
    where a `DelayEstimate` is given, nothing is waited for.
    """

    def __init__(
        self,
        plan: EpisodePlan,
        *,
        link: PolicyLink,
        track: EpisodeTrack,
        prompt: str,
        options: PlaybackOptions,
        delay: DelayEstimate | None = None,
    ) -> None:
        self._plan = plan
        self._link = link
        self._track = track
        self._prompt = prompt
        self._control_hz = options.control_hz
        self._delay = delay
        self._is_step = np.array(options.is_step or (False,))
        self.executor = ChunkExecutor(
            episode_id=plan.episode_id,
            execute_horizon=options.execute_horizon,
            delay_ticks=options.delay_ticks if delay is None else delay.ticks,
            chunking=options.chunking,
            is_step=options.is_step,
        )
        self.meter = SeamMeter()
        self.said = ""
        """What the policy said last that it is about."""
        self.num_held = 0
        """Ticks in which there was no action to play."""
        self.value: float | None = None
        """The critic's value that came with a chunk of this tick."""
        self._asked_at = 0
        self._last: np.ndarray | None = None

    def receive(self, tick: int) -> None:
        """Take what has arrived before `tick` is played; in virtual time wait for what is due."""
        self.value = None
        if self._delay is None:
            self._wait_for_due(tick)
            return
        while (reply := self._link.arrived_reply()) is not None:
            waited, num_late = self.executor.pending_ticks(tick), self.executor.num_late
            if self._take(reply, tick) or self.executor.num_late > num_late:
                self._delay.add(waited)
                self.executor.delay_ticks = self._delay.ticks
        self.executor.give_up(tick, longest=round(LOST_AFTER_S * self._control_hz) + 3 * self.executor.delay_ticks)

    def needs_observation(self, tick: int) -> bool:
        """Return whether the policy is going to be asked in this tick."""
        return self.executor.needs_request(tick)

    def next_action(self, tick: int, observation: Mapping[str, Any] | None) -> np.ndarray | None:
        """Ask if it is time to, and return the policy's action, float32 [A]; None to hold."""
        if self.executor.needs_request(tick):
            assert observation is not None, "requests are made from observations"
            self._ask(tick, observation)
            if self._delay is None:
                self._wait_for_due(tick)
        return self.executor.action(tick)

    def note_played(self, tick: int, action: np.ndarray | None) -> np.ndarray | None:
        """Note that the policy's action was played, or that the robot held; return what was asked of it, if anything was."""
        if action is not None:
            self._last = action
        else:
            self.num_held += 1
            self._last = None if self._last is None else held(self._last, is_step=self._is_step)
        if self._last is not None:
            self.meter.add(self._last, chunk=self.executor.chunk(tick) if action is not None else -1)
        return self._last

    def interrupt(self) -> None:
        """Forget all plans: somebody else acts."""
        self.executor.interrupt()
        self.meter.cut()
        self._last = None

    def _wait_for_due(self, tick: int) -> None:
        while self.executor.is_due(tick):
            self._take(self._link.next_reply(), tick)

    def _ask(self, tick: int, observation: Mapping[str, Any]) -> None:
        seq = self._link.next_seq()
        prefix = self.executor.request(tick, seq=seq)
        seen = Observation(
            images=observation["images"],
            state=np.asarray(observation["state"], np.float32),
            prompt=self._prompt,
            time_s=tick / self._control_hz,
        )
        request = PolicyRequest(observation=seen, episode_seed=self._plan.seed, tick=tick, prefix=prefix)
        self._asked_at = tick
        self._link.ask(self._plan, request, seq=seq)

    def _take(self, reply: ChunkReply, tick: int) -> bool:
        if not self.executor.accept(reply, tick=tick):
            return False
        chunk = reply.chunk
        if not np.isfinite(chunk.actions).all():
            raise PolicyError(
                f"policy {chunk.policy_version} proposed actions that are not finite for the observation of tick "
                f"{self._asked_at}; nothing of it was played. Its training or its statistics are broken"
            )
        self._track.policy_version = self._track.policy_version or chunk.policy_version
        self.said = chunk.subtask
        self._track.num_fallbacks += chunk.fallback is not None
        if chunk.value is not None:
            self._track.set_value(self._asked_at, chunk.value)
        self.value = chunk.value
        return True
