"""A loop at a fixed rate, on a real or a virtual clock: absolute deadlines, no drift, missed ticks counted, jitter measured."""

from __future__ import annotations

import math
import time
from typing import Protocol

import numpy as np

from opentau.errors import OptionError
from robot_bridge.playing.report import Timing

LATEST = 0.5
"""Part of a period after which a tick has missed its deadline; the next one then waits for a deadline of the grid."""


class Clock(Protocol):
    """Seconds that only grow; their zero means nothing."""

    def now_s(self) -> float: ...

    def wait_until(self, time_s: float) -> None:
        """Return at `time_s` or, if that is over, at once."""
        ...


class RealClock:
    """The machine's monotonic clock; what its wall clock says changes nothing."""

    def now_s(self) -> float:
        return time.monotonic()

    def wait_until(self, time_s: float) -> None:
        while (rest := time_s - time.monotonic()) > 0:
            time.sleep(rest)


class VirtualClock:
    """Time that passes when somebody waits, and at once."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def now_s(self) -> float:
        return self._now_s

    def wait_until(self, time_s: float) -> None:
        self._now_s = max(self._now_s, time_s)


CLOCKS: dict[str, type[RealClock] | type[VirtualClock]] = {"real": RealClock, "virtual": VirtualClock}


class Ticker:
    """Wait for one deadline after another.

    Deadlines lie on a grid from `start` on. A tick that begins too late (`LATEST`) leaves its deadline out and waits for
    the next one, so that two actions are never played in quick succession to make up for lost time.
    """

    def __init__(self, clock: Clock, *, hz: float) -> None:
        if not (math.isfinite(hz) and hz > 0):
            raise OptionError(f"a loop of {hz} Hz cannot run; set control_hz to a positive number")
        self.clock = clock
        self.period_s = 1.0 / hz
        self.start()

    def start(self) -> None:
        """Lay a new grid from now on and forget what was measured."""
        self._start_s = self.clock.now_s()
        self._number = 0
        self._late_s: list[float] = []
        self._num_missed = 0

    def wait(self) -> int:
        """Wait for the next deadline; return how many were missed since the last call."""
        self._number += 1
        late = (self.clock.now_s() - self._start_s) / self.period_s - self._number
        num_missed = math.floor(late - LATEST) + 1 if late > LATEST else 0
        self._number += num_missed
        self._num_missed += num_missed
        deadline_s = self._start_s + self._number * self.period_s
        self.clock.wait_until(deadline_s)
        self._late_s.append(max(0.0, self.clock.now_s() - deadline_s))
        return num_missed

    def timing(self) -> Timing:
        """Return what was measured since `start`."""
        late_ms = 1000 * np.array(self._late_s or [0.0])
        p50, p99 = (float(each) for each in np.percentile(late_ms, [50, 99]))
        return Timing(
            num_ticks=len(self._late_s),
            num_missed=self._num_missed,
            jitter_p50_ms=p50,
            jitter_p99_ms=p99,
            jitter_max_ms=float(late_ms.max()),
        )
