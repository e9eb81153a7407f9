"""The latched stop: anybody local can trip it, nothing remote can release it."""

from __future__ import annotations

import signal
import threading
from typing import Protocol, runtime_checkable

STOP_SIGNAL, REARM_SIGNAL = (getattr(signal, name, None) for name in ("SIGUSR1", "SIGUSR2"))
"""Trip and release the stop of a station from another program of its user; Windows has neither, and keys only."""


@runtime_checkable
class StopButton(Protocol):
    """A teleoperation device or an operator's screen that can trip the stop."""

    def wants_stop(self) -> bool:
        """Return whether the stop is pressed."""
        ...

    def wants_rearm(self) -> bool:
        """Return whether a human on the spot releases the stop."""
        ...


class StopLatch:
    """Set once, it stays set until somebody on the spot releases it; whatever happens to servers and policies.

    It lives in the process that commands the robot and is read in every control tick, by the one function that every command
    goes through (`Safety`).
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self.reason = ""

    @property
    def is_set(self) -> bool:
        return self._event.is_set()

    def trip(self, reason: str) -> None:
        """Stop the robot; the first reason is kept."""
        if not self._event.is_set():
            self.reason = reason
        self._event.set()

    def rearm(self) -> None:
        """Let the robot move again; call it for a human on the spot only."""
        self._event.clear()
        self.reason = ""

    def poll(self, *buttons: object) -> None:
        """Ask every stop button among `buttons`; a pressed one trips, whoever else releases it in the same tick."""
        pressed = [button for button in buttons if isinstance(button, StopButton)]
        # Both are read in every tick: a release that was pressed before the stop must not count after it.
        stops = [button for button in pressed if button.wants_stop()]
        rearms = [button for button in pressed if button.wants_rearm()]
        if stops:
            self.trip(f"the stop of {type(stops[0]).__name__}")
        elif rearms and self.is_set:
            self.rearm()

    def listen(self) -> None:
        """Let signals of this machine trip and release it, where there are such signals (not on Windows); main thread only."""
        if STOP_SIGNAL is not None:
            signal.signal(STOP_SIGNAL, lambda *_: self.trip("SIGUSR1"))
        if REARM_SIGNAL is not None:
            signal.signal(REARM_SIGNAL, lambda *_: self.rearm())
