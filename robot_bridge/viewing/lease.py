"""The lease on a run: one operator steers at a time, and loses the right when it is not renewed; stopping needs none."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from opentau.errors import LeaseError

LEASE_S = 30.0


class Lease:
    """Held by one operator until it expires on this side's monotonic clock."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._holder = ""
        self._lease_id = ""
        self._expires = 0.0

    def acquire(self, holder: str) -> str:
        """Return the id of a new lease; raises `LeaseError` while another operator holds one."""
        if self._is_running() and self._holder != holder:
            left_s = self._expires - self._now()
            raise LeaseError(f"{self._holder} steers this run; the lease ends in {left_s:.0f} s unless it is renewed")
        self._holder, self._lease_id = holder, secrets.token_hex(16)
        self._expires = self._now() + LEASE_S
        return self._lease_id

    def renew(self, holder: str, lease_id: str) -> None:
        """Let a lease that has not ended run anew."""
        self.require(holder, lease_id)
        self._expires = self._now() + LEASE_S

    def release(self, holder: str, lease_id: str) -> None:
        """End a lease."""
        self.require(holder, lease_id)
        self._lease_id = ""

    def require(self, holder: str, lease_id: str) -> None:
        """Raise `LeaseError` unless this operator holds this lease now."""
        if not lease_id:
            raise LeaseError("steering needs a lease; acquire one first")
        if self._holder != holder or self._lease_id != lease_id:
            raise LeaseError("this lease is another operator's, or was given up; acquire one first")
        if not self._is_running():
            raise LeaseError(f"this lease has expired: it was not renewed for {LEASE_S:g} s; acquire one again")

    def _is_running(self) -> bool:
        return bool(self._lease_id) and self._now() < self._expires
