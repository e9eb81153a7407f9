"""Chunk playback: which action of which chunk is played in a control step, and which replies come too late for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from opentau.errors import OptionError, PolicyError
from robot_bridge.payloads import ChunkReply

# Shapes: H actions of a chunk, d committed actions, A action dimensions.


@dataclass(frozen=True, slots=True)
class _Pending:
    seq: int
    tick: int
    committed: np.ndarray

    @property
    def plays_from(self) -> int:
        return self.tick + len(self.committed)


class ChunkExecutor:
    """Play chunks by the control steps that really passed, whatever the wire does.

    A chunk answers the observation of tick t, so its action i belongs to tick t + i and to no other. With a delay of d
    ticks the next chunk is asked for d ticks before it is needed, together with the d actions that will play meanwhile
    (they are committed; training-time real-time chunking, arXiv:2512.05964); it then plays from its action d on. Needs
    d < execute_horizon and H >= execute_horizon + d.
    """

    def __init__(self, *, episode_id: str, execute_horizon: int, delay_ticks: int) -> None:
        if not 0 <= delay_ticks < execute_horizon:
            raise OptionError(
                f"delay_ticks is {delay_ticks} and execute_horizon {execute_horizon}; "
                "a delay as long as what a chunk plays cannot be bridged: raise execute_horizon"
            )
        self._episode_id = episode_id
        self._execute_horizon = execute_horizon
        self._delay_ticks = delay_ticks
        self._pending: _Pending | None = None
        self._actions = np.empty((0, 0), np.float32)
        self._observed_at = 0
        self._plays_until = 0
        self.num_refused = 0
        """Replies that were not played because they answered something else or came too late."""

    def needs_request(self, tick: int) -> bool:
        """Return whether the observation of this tick must be sent."""
        if self._pending is not None:
            return False
        return tick >= self._plays_until - self._delay_ticks or self._is_empty

    def request(self, tick: int, *, seq: int) -> np.ndarray | None:
        """Note that request `seq` goes out with the observation of `tick`; return its committed prefix [d, A], if any."""
        start = tick - self._observed_at
        committed = self._actions[start : max(start, self._plays_until - self._observed_at)]
        self._pending = _Pending(seq, tick, committed)
        return committed if len(committed) else None

    def is_waiting(self, tick: int) -> bool:
        """Return whether nothing can be played in this tick before the pending reply is there."""
        return self._pending is not None and tick >= self._pending.plays_from

    def accept(self, reply: ChunkReply) -> bool:
        """Take the reply to the pending request; return False, and never play it, if it answers anything else.

        What was committed stays: an early reply changes nothing before the tick it was asked for.
        """
        pending = self._pending
        if pending is None or reply.seq != pending.seq or reply.episode_id != self._episode_id:
            self.num_refused += 1
            return False
        num_needed = len(pending.committed) + self._execute_horizon
        if len(reply.chunk.actions) < num_needed:
            raise PolicyError(
                f"policy {reply.chunk.policy_version} answers {len(reply.chunk.actions)} actions, {num_needed} are needed: "
                "execute_horizon plus delay_ticks must not exceed its action horizon"
            )
        fresh = reply.chunk.actions[len(pending.committed) :]
        self._actions = np.concatenate([pending.committed, fresh]) if len(pending.committed) else fresh
        self._observed_at = pending.tick
        self._plays_until = pending.plays_from + self._execute_horizon
        self._pending = None
        return True

    def action(self, tick: int) -> np.ndarray:
        """Return the action of this tick, [A]."""
        if self._is_empty or not self._observed_at <= tick < self._plays_until:
            raise RuntimeError(f"no action for tick {tick}: chunks are played up to tick {self._plays_until}")
        return self._actions[tick - self._observed_at]

    def interrupt(self) -> None:
        """Drop what is left of the chunk and the pending request: somebody else acts; the next chunk is planned afresh."""
        self._pending = None
        self._actions = np.empty((0, 0), np.float32)

    @property
    def _is_empty(self) -> bool:
        return len(self._actions) == 0
