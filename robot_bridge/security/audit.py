"""The record of who was refused what, and of every command; bounded for each peer, so that nobody fills the disk with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from opentau.errors import StorageError
from opentau.events import AUDIT

ACCEPTED, REFUSED = "accepted", "refused"
UNKNOWN = "unknown"
"""Stands for every peer without a trusted key: an attacker can make any number of those, and they share one allowance."""
BURST = 20
PER_S = 0.2

_MAX_TEXT = 300

Emit = Callable[..., None]
"""`EventLog.emit`: a kind, then fields."""


class Allowance:
    """A bucket of `burst` tokens that fills by `per_s`."""

    def __init__(self, *, burst: int, per_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._per_s, self._now = burst, per_s, now
        self._left, self._last = float(burst), now()

    def take(self) -> bool:
        """Return whether one more is allowed, and count it."""
        now = self._now()
        self._left = min(float(self._burst), self._left + (now - self._last) * self._per_s)
        self._last = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Audit:
    """Write audit events; may be shared by threads."""

    def __init__(self, emit: Emit, *, now: Callable[[], float] = time.monotonic) -> None:
        self._emit = emit
        self._now = now
        self._lock = threading.Lock()
        self._allowances: dict[str, Allowance] = {}
        self._num_left_out: dict[str, int] = {}

    def refused(self, *, who: str, role: str, what: str, why: str, peer: str = UNKNOWN) -> None:
        """Record a refusal; `peer` names whose allowance it uses: a trusted key's name, or `UNKNOWN`."""
        with self._lock:
            if peer not in self._allowances:
                self._allowances[peer] = Allowance(burst=BURST, per_s=PER_S, now=self._now)
            if not self._allowances[peer].take():
                self._num_left_out[peer] = self._num_left_out.get(peer, 0) + 1
                return
            left_out = self._num_left_out.pop(peer, 0)
        more: dict[str, Any] = {"num_left_out": left_out} if left_out else {}
        if not self._write(who=who, role=role, what=what, why=why, state=REFUSED, **more):
            with self._lock:
                self._num_left_out[peer] = self._num_left_out.get(peer, 0) + left_out + 1

    def accepted(self, *, who: str, role: str, what: str, command_id: str) -> None:
        """Record a command that is passed on; who may send some is bounded by the desk that accepts them."""
        self._write(who=who, role=role, what=what, why="", state=ACCEPTED, command_id=command_id)

    def _write(self, *, who: str, role: str, what: str, why: str, state: str, **more: Any) -> bool:
        """Write an event; return False where the disk takes none, which must not end whoever guards the door."""
        try:
            self._emit(AUDIT, who=who[:_MAX_TEXT], role=role, what=what[:_MAX_TEXT], why=why[:_MAX_TEXT], state=state, **more)
        except (OSError, StorageError):
            return False
        return True
