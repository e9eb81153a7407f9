"""How long a peer has been silent, not counting the time in which this process itself did not run."""

from __future__ import annotations

import time
from collections.abc import Callable

LONGEST_STEP_S = 1.0
"""More time than this between two calls was a suspended process, a sleeping laptop or one long call of ours."""


class Silence:
    """Clock of a peer's silence; a stopped and continued program does not take its peers for dead."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._last = now()
        self.seconds = 0.0

    def heard(self) -> None:
        """Start again at zero: the peer has spoken."""
        self._last = self._now()
        self.seconds = 0.0

    def advance(self) -> float:
        """Add the time since the last call and return the silence so far, seconds."""
        now = self._now()
        self.seconds += min(now - self._last, LONGEST_STEP_S)
        self._last = now
        return self.seconds
