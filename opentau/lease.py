"""The lease on a run: one operator steers at a time, here or from elsewhere, and loses the right when it is not renewed."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from opentau.errors import LeaseError

LEASE_S = 30.0
"""Longest time that a lease lasts without a sign of life."""
LEASE_FILE = "lease.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Who holds a lease, and for how long."""

    holder: str = ""
    """'' while nobody does."""
    lease_id: str = ""
    left_s: float = 0.0


class Lease:
    """The one lease of a run, kept in its directory: operators of this machine and of others ask for the same.

    It ends on the machine's monotonic clock, which all its processes share and nobody sets.
    """

    def __init__(self, run_dir: Path, *, lease_s: float = LEASE_S, now: Callable[[], float] = time.monotonic) -> None:
        """`lease_s`: how long leases last that are taken here, at most `LEASE_S`."""
        if not 0 < lease_s <= LEASE_S:
            raise LeaseError(f"a lease lasts {lease_s:g} s; ask for more than 0 and at most {LEASE_S:g}")
        self._path = run_dir / LEASE_FILE
        self._lease_s = lease_s
        self._now = now

    def held(self) -> Held:
        """Return who holds it now."""
        try:
            return self._parse(self._path.read_text())
        except FileNotFoundError:
            return Held()

    def acquire(self, holder: str) -> str:
        """Return the id of a new lease; raises `LeaseError` while another operator holds one."""
        with self._locked():
            held = self.held()
            if held.holder and held.holder != holder:
                raise LeaseError(f"{held.holder} steers this run; the lease ends in {held.left_s:.0f} s unless it is renewed")
            lease_id = secrets.token_hex(16)
            self._write(holder, lease_id, self._now() + self._lease_s)
            return lease_id

    def hold(self, holder: str, lease_id: str) -> str:
        """Renew a lease that still runs, else acquire one; return its id."""
        try:
            self.renew(holder, lease_id)
        except LeaseError:
            return self.acquire(holder)
        return lease_id

    def renew(self, holder: str, lease_id: str) -> None:
        """Let a lease that has not ended run anew."""
        with self._locked():
            self.require(holder, lease_id)
            self._write(holder, lease_id, self._now() + self._lease_s)

    def release(self, holder: str, lease_id: str) -> None:
        """End a lease."""
        with self._locked():
            self.require(holder, lease_id)
            self._write("", "", 0.0)

    def drop(self, holder: str, lease_id: str) -> None:
        """End a lease if it still runs."""
        with self._locked():
            held = self.held()
            if (held.holder, held.lease_id) == (holder, lease_id):
                self._write("", "", 0.0)

    def require(self, holder: str, lease_id: str) -> None:
        """Raise `LeaseError` unless this operator holds this lease now."""
        held = self.held()
        if not lease_id:
            raise LeaseError("steering needs a lease; acquire one first")
        if held.lease_id == lease_id and held.holder == holder:
            return
        if held.holder:
            raise LeaseError(f"this lease is another operator's, or was given up; {held.holder} steers now: acquire one first")
        raise LeaseError("this lease has expired or was given up: it was not renewed in time; acquire one again")

    def _parse(self, text: str) -> Held:
        try:
            plain = json.loads(text)
            left_s = plain["ends"] - self._now()
        except (ValueError, KeyError, TypeError):  # damaged: nobody's
            return Held()
        if not 0 < left_s <= LEASE_S:  # over, or from before this machine started
            return Held()
        return Held(holder=plain["holder"], lease_id=plain["lease_id"], left_s=left_s)

    def _write(self, holder: str, lease_id: str, ends: float) -> None:
        """Replace the file, so that who reads it meanwhile sees one lease or the other."""
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps({"holder": holder, "lease_id": lease_id, "ends": ends}), encoding="utf-8")
        os.replace(partial, self._path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        import fcntl  # absent on Windows, where runs are followed and never live

        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path.with_suffix(".lock"), "a", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
