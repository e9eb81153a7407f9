"""Chunk playback: which action of which chunk is played in a control tick, and which replies come too late for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from opentau.errors import OptionError, PolicyError
from robot_bridge.playing.chunking import ChunkingOptions, Mode, held, longest_bridged, old_weights
from robot_bridge.wire.payloads import ChunkReply

# Shapes: H actions of a chunk, d committed actions, A action dimensions.

_DEFAULT = ChunkingOptions()


class TickRing:
    """Actions by absolute control tick, in a ring; each with the number of the chunk that it comes from."""

    CAPACITY = 1024

    def __init__(self) -> None:
        self._ticks = np.full(self.CAPACITY, -1, np.int64)
        self._chunks = np.zeros(self.CAPACITY, np.int64)
        self._actions: np.ndarray | None = None

    def put(self, tick: int, actions: np.ndarray, *, chunk: int) -> None:
        """Write actions [n, A] for `tick` and the ticks after it, over what was there."""
        if self._actions is None:
            self._actions = np.zeros((self.CAPACITY, actions.shape[1]), np.float32)
        ticks = np.arange(tick, tick + len(actions))
        slots = ticks % self.CAPACITY
        self._ticks[slots], self._chunks[slots], self._actions[slots] = ticks, chunk, actions

    def get(self, tick: int) -> np.ndarray | None:
        """Return the action of a tick, [A], or None where there is none."""
        slot = tick % self.CAPACITY
        return self._actions[slot] if self._actions is not None and self._ticks[slot] == tick else None

    def chunk(self, tick: int) -> int:
        """Return the number of the chunk that the action of a tick comes from; -1 where there is none."""
        slot = tick % self.CAPACITY
        return int(self._chunks[slot]) if self._ticks[slot] == tick else -1

    def run(self, tick: int, *, limit: int) -> np.ndarray:
        """Return the actions of `tick` and the ticks after it without a gap, at most `limit`, [n, A]."""
        found: list[np.ndarray] = []
        while len(found) < limit and (action := self.get(tick + len(found))) is not None:
            found.append(action)
        return np.stack(found) if found else np.empty((0, 0), np.float32)

    def clear(self, tick: int | None = None) -> None:
        """Drop the actions of `tick` and the ticks after it; all of them for None."""
        self._ticks[self._ticks >= (0 if tick is None else tick)] = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pending:
    seq: int
    tick: int
    """Of its observation."""
    num_committed: int
    """Ticks from then on whose actions stand, whatever the reply says."""
    is_continuing: bool
    """Whether the last chunk plays meanwhile, so that actions belong to ticks; else the robot holds, and plays them from the
    first one on when they are there."""
    due: int
    """Tick in which the reply arrives in virtual time."""


class ChunkExecutor:
    """Play chunks by the control ticks that were really consumed, whatever the wire does.

    A chunk answers the observation of tick t, so its action i belongs to tick t + i and to no other. With a delay of d
    ticks the next chunk is asked for d ticks before `execute_horizon` actions of this one are played; how it follows is the
    mode's business (`Mode`). A reply that comes later than that finds the rest of its predecessor played, and one whose H
    ticks are over is refused. This bridges a delay of up to execute_horizon and H - execute_horizon ticks. Beyond, and in
    mode 'hold', a chunk is asked for once the last one is played; the robot holds until it is there and then plays it from
    its first action on: nothing moved since its observation.
    """

    def __init__(
        self,
        *,
        episode_id: str,
        execute_horizon: int,
        delay_ticks: int,
        chunking: ChunkingOptions = _DEFAULT,
        is_step: tuple[bool, ...] = (),
    ) -> None:
        if execute_horizon < 1 or delay_ticks < 0:
            raise OptionError(
                f"execute_horizon is {execute_horizon} and delay_ticks {delay_ticks}; "
                "at least one action of a chunk is played, and no delay is negative"
            )
        self.delay_ticks = delay_ticks
        """The delay to reckon with; whoever measures it may change it at any time."""
        self._episode_id = episode_id
        self._execute_horizon = execute_horizon
        self._chunking = chunking
        self._is_step = np.array(is_step or (False,))
        self._ring = TickRing()
        self._pending: _Pending | None = None
        self._action_horizon: int | None = None
        self._plays_until = 0
        self._is_fresh = True
        """Whether nothing was played since the start or the last interruption."""
        self.num_stale = 0
        """Replies to other requests than the pending one."""
        self.num_foreign = 0
        """Replies of other episodes."""
        self.num_late = 0
        """Replies to the pending request whose ticks were over."""
        self.num_unanswered = 0
        """Requests that were given up."""

    @property
    def num_refused(self) -> int:
        """Replies of which nothing was played."""
        return self.num_stale + self.num_foreign + self.num_late

    @property
    def is_bridging(self) -> bool:
        """Return whether the delay is bridged by the last chunk; else the robot holds while it waits."""
        if self._chunking.mode == Mode.HOLD:
            return False
        return self.delay_ticks <= longest_bridged(
            execute_horizon=self._execute_horizon, action_horizon=self._action_horizon, chunking=self._chunking
        )

    def needs_request(self, tick: int) -> bool:
        """Return whether the observation of this tick must be sent."""
        if self._pending is not None:
            return False
        lead = self.delay_ticks if self.is_bridging else 0
        return self._ring.get(tick) is None or tick >= self._plays_until - lead

    def request(self, tick: int, *, seq: int) -> np.ndarray | None:
        """Note that request `seq` goes out with the observation of `tick`; return its committed prefix [d, A], if any."""
        is_continuing = self.is_bridging and self._ring.get(tick) is not None
        if not is_continuing:
            self._ring.clear(tick)
        prefix = self._commit(tick) if is_continuing and self._chunking.sends_prefix and self.delay_ticks else None
        self._pending = _Pending(
            seq=seq,
            tick=tick,
            num_committed=0 if prefix is None else len(prefix),
            is_continuing=is_continuing,
            due=tick if self._is_fresh else tick + self.delay_ticks,
        )
        return prefix

    def is_due(self, tick: int) -> bool:
        """Return whether, in virtual time, the pending reply is there in this tick."""
        return self._pending is not None and tick >= self._pending.due

    def pending_ticks(self, tick: int) -> int:
        """Return how many control ticks were consumed since the pending request."""
        return 0 if self._pending is None else tick - self._pending.tick

    def accept(self, reply: ChunkReply, *, tick: int) -> bool:
        """Take the reply to the pending request before `tick` is played; return False, and never play it, for any other.

        What was committed stays: an early reply changes nothing before the tick it was asked for.
        """
        pending = self._pending
        if reply.episode_id != self._episode_id:
            self.num_foreign += 1
            return False
        if pending is None or reply.seq != pending.seq:
            self.num_stale += 1
            return False
        actions = np.asarray(reply.chunk.actions, np.float32)
        if not self._execute_horizon <= len(actions) <= TickRing.CAPACITY // 2:
            raise PolicyError(
                f"policy {reply.chunk.policy_version} answers {len(actions)} actions, {self._execute_horizon} are needed "
                f"and at most {TickRing.CAPACITY // 2} can be kept: execute_horizon must not exceed its action horizon"
            )
        self._pending, self._action_horizon = None, len(actions)
        if not pending.is_continuing:
            self._plan(tick, actions if self.is_bridging else actions[: self._execute_horizon], chunk=reply.seq)
            return True
        num_gone = max(tick - pending.tick, pending.num_committed)
        if num_gone >= len(actions):
            self.num_late += 1
            return False
        self._plan(pending.tick + num_gone, self._faded(actions[num_gone:], tick=tick), chunk=reply.seq)
        return True

    def give_up(self, tick: int, *, longest: int) -> None:
        """Forget a pending request that waited over `longest` ticks or whose own ticks are over.

        One that the robot already holds for is given up after three times the usual delay.
        """
        pending = self._pending
        if pending is None:
            return
        num_waited = tick - pending.tick
        is_missed = self._ring.get(tick) is None and num_waited > 3 * max(1, self.delay_ticks)
        is_over = pending.is_continuing and (is_missed or num_waited >= (self._action_horizon or 0))
        if is_over or num_waited > longest:
            self._pending = None
            self.num_unanswered += 1

    def action(self, tick: int) -> np.ndarray | None:
        """Return the action of this tick, float32 [A]; None to hold."""
        action = self._ring.get(tick)
        return None if action is None else action.copy()

    def chunk(self, tick: int) -> int:
        """Return the request number of the chunk that the action of this tick comes from; -1 for holding."""
        return self._ring.chunk(tick)

    def interrupt(self) -> None:
        """Drop what is left of the chunk and the pending request: somebody else acts; the next chunk is planned afresh."""
        self._pending = None
        self._ring.clear()
        self._is_fresh = True

    def _plan(self, tick: int, actions: np.ndarray, *, chunk: int) -> None:
        self._ring.clear(tick)
        self._ring.put(tick, actions, chunk=chunk)
        self._plays_until = tick + min(self._execute_horizon, len(actions))
        self._is_fresh = False

    def _commit(self, tick: int) -> np.ndarray:
        """Return the actions of the next d ticks, which will be played now in any case; where they end the robot holds."""
        planned = self._ring.run(tick, limit=self.delay_ticks)
        num_missing = self.delay_ticks - len(planned)
        if num_missing:
            end = tick + len(planned)
            rest = np.repeat(held(planned[-1], is_step=self._is_step)[None], num_missing, axis=0)
            self._ring.put(end, rest, chunk=self._ring.chunk(end - 1))
            planned = np.concatenate([planned, rest])
        return planned

    def _faded(self, fresh: np.ndarray, *, tick: int) -> np.ndarray:
        """Return the new chunk's actions from `tick` on, faded into from the old one's where that is the mode."""
        if self._chunking.mode != Mode.BLEND:
            return fresh
        old = self._ring.run(tick, limit=len(fresh))
        if not len(old):
            return fresh
        weight = old_weights(len(old), fade=self._chunking.fade)
        return np.concatenate([weight * old + (1 - weight) * fresh[: len(old)], fresh[len(old) :]])
