"""How far a peer's monotonic clock is from ours, from four timestamps a question; wall clocks play no part.

As NTP does it (RFC 5905, section 8): of the questions of the last while, the one that was on its way for the shortest time
says most about the offset, and half of that time is the most it can be wrong by.
"""

from __future__ import annotations

import secrets
from collections import deque
from dataclasses import dataclass

from robot_bridge.wire.messages import TimePong

BOOT_ID = secrets.token_hex(8)
"""Names this process: another one has counted anew, and perhaps on another clock."""

WINDOW = 32
"""Answers that are kept."""
WINDOW_NS = 60_000_000_000
"""Older answers say nothing any more: two quartz clocks drift apart by some microseconds a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockEstimate:
    """What is known of a peer's clock."""

    offset_ns: int
    """Peer's clock minus ours."""
    rtt_ns: int
    """Of the answer that says so: the shortest in the window."""

    @property
    def error_ns(self) -> int:
        """The most that the offset can be wrong by, however unequal the two ways are."""
        return (self.rtt_ns + 1) // 2


class PeerClock:
    """Collect a peer's answers; not thread-safe."""

    def __init__(self) -> None:
        self._answers: deque[tuple[int, ClockEstimate]] = deque(maxlen=WINDOW)
        self._boot_id = ""
        self.num_restarts = 0
        """How often the peer came back as another process."""

    def add(self, pong: TimePong, *, now_ns: int) -> None:
        """Take in an answer that arrived at `now_ns` of our clock; one that contradicts itself is ignored."""
        if pong.boot_id != self._boot_id:
            self.num_restarts += bool(self._boot_id)
            self._boot_id = pong.boot_id
            self._answers.clear()
        at_peer_ns = pong.t3_ns - pong.t2_ns
        rtt_ns = now_ns - pong.t1_ns - at_peer_ns
        if at_peer_ns < 0 or rtt_ns < 0:
            return
        offset_ns = ((pong.t2_ns - pong.t1_ns) + (pong.t3_ns - now_ns)) // 2
        self._answers.append((now_ns, ClockEstimate(offset_ns=offset_ns, rtt_ns=rtt_ns)))

    def estimate(self, *, now_ns: int) -> ClockEstimate | None:
        """Return the best of the recent answers; None where there is none."""
        recent = [estimate for at_ns, estimate in self._answers if now_ns - at_ns <= WINDOW_NS]
        return min(recent, key=lambda estimate: estimate.rtt_ns) if recent else None
