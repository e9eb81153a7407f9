"""How a station's link does, as the station itself measures it over its newest answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from robot_bridge.wire.messages import Health
from robot_bridge.wire.payloads import ChunkTiming

NEWEST = 64
"""Answers that the numbers rest on."""


class HealthMeter:
    """Takes the times of answers and says what they add up to."""

    def __init__(self) -> None:
        self._timings: deque[ChunkTiming] = deque(maxlen=NEWEST)
        self.hold_of: Callable[[], str] = lambda: ""
        """Says how a robot holds while it has no fresh action; '' while it has one."""

    def add(self, timing: ChunkTiming) -> None:
        self._timings.append(timing)

    def health(self) -> Health | None:
        """Return how the link does; None while there is nothing to tell."""
        hold = self.hold_of()
        if not self._timings:
            return Health(hold=hold) if hold else None
        round_trip_ms = np.array([timing.net_ms for timing in self._timings])
        p50, p95 = np.percentile(round_trip_ms, [50, 95])
        return Health(
            num_answers=len(self._timings),
            round_trip_ms=round(float(p50), 2),
            round_trip_p95_ms=round(float(p95), 2),
            answer_ms=round(float(np.median([timing.queue_ms + timing.infer_ms for timing in self._timings])), 2),
            obs_age_ms=round(float(np.median([timing.obs_age_ms for timing in self._timings])), 2),
            hold=hold,
        )
