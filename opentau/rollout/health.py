"""What stations say of their links, told in the run's log: seldom while all is as it was, at once when a robot holds."""

from __future__ import annotations

import time
from collections.abc import Callable

from opentau.events import LINK
from robot_bridge.wire.messages import Health

EVERY_S = 5.0
"""The log gets a word on each station so often, a quarter of a kilobyte."""


class HealthTeller:
    """Takes what comes with signs of life, in the server's thread."""

    def __init__(self, emit: Callable[..., None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._emit = emit
        self._clock = clock
        self._told: dict[str, tuple[float, str]] = {}
        """Station to when it was told of last, and how it held then."""

    def take(self, station_id: str, health: Health) -> None:
        """Tell of a station if it is time to, or if it holds otherwise than before."""
        now_s = self._clock()
        told_s, hold = self._told.get(station_id, (-EVERY_S, health.hold))
        if now_s - told_s < EVERY_S and hold == health.hold:
            return
        self._told[station_id] = now_s, health.hold
        answers = {
            "round_trip_ms": health.round_trip_ms,
            "round_trip_p95_ms": health.round_trip_p95_ms,
            "answer_ms": health.answer_ms,
            "obs_age_ms": health.obs_age_ms,
        }
        self._emit(LINK, station=station_id, hold=health.hold, **(answers if health.num_answers else {}))
