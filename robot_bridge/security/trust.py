"""The trust list: whose public key may come, under which name and in which role; revoking keeps a record."""

from __future__ import annotations

import dataclasses
import enum
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from opentau.config import options_from
from opentau.errors import KeyFileError, OptionError, near_matches
from robot_bridge.security.keys import NUMBER_MARK, OWN_STATIONS, require_key, require_name, write_yaml

TRUST_FILE = "trust.yaml"
_MODE, _WRITABLE_BY_OTHERS = 0o600, 0o022


class Role(enum.StrEnum):
    """What a trusted key may do."""

    ROBOT = "robot"
    """Ask for chunks, play episodes and upload them."""
    POLICY = "policy"
    """Serve: the key that this machine's robots and screens accept as their server's."""
    OPERATOR = "operator"
    """Follow a run and steer it."""
    VIEWER = "viewer"
    """Follow a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """One line of the list."""

    name: str
    public: str
    role: str
    trusted_at: str
    """When it was trusted, UTC."""
    revoked_at: str = ""
    """When it was revoked, UTC; empty while it is trusted."""

    def __post_init__(self) -> None:
        require_name(self.name)
        require_key(self.public, where=f"the entry of {self.name}")
        if self.role not in tuple(Role):
            raise KeyFileError(f"{self.name} has the role {self.role!r}.{near_matches(self.role, tuple(Role))}")

    def covers(self, identity: str) -> bool:
        """Return whether a link of this key may call itself so."""
        return identity == self.name or identity.startswith(self.name + NUMBER_MARK)


class TrustList:
    """The list in a file, read again when the file changed, so that a revoked key is out at once."""

    def __init__(self, folder: Path, *, own: TrustedKey | None = None) -> None:
        """`own` is trusted besides, and stands in no file: the key of a session's own stations."""
        self.path = folder / TRUST_FILE
        self._own = own
        self._stamp: tuple[int, int, int] | None = None
        self._trusted: Mapping[str, TrustedKey] = {}

    def entry(self, public: str) -> TrustedKey | None:
        """Return who has this key and is trusted now."""
        if self._own is not None and public == self._own.public:
            return self._own
        stamp = self._read_stamp()
        if stamp != self._stamp:
            self._trusted = {entry.public: entry for entry in self.entries() if not entry.revoked_at}
            self._stamp = stamp
        return self._trusted.get(public)

    def entries(self) -> list[TrustedKey]:
        """Read all lines, revoked ones too; raises `KeyFileError` for a damaged list and for one that others may change."""
        if not self.path.is_file():
            return []
        if os.name == "posix" and self.path.stat().st_mode & _WRITABLE_BY_OTHERS:
            raise KeyFileError(f"others may change the trust list {self.path}; run `chmod 600 {self.path}`")
        try:
            plain = yaml.safe_load(self.path.read_text(encoding="utf-8")) or []
            return [options_from(TrustedKey, row, where="trust") for row in plain]
        except (OSError, ValueError, TypeError, yaml.YAMLError, OptionError) as error:
            raise KeyFileError(f"the trust list {self.path} is damaged: {error}") from error

    def named(self, name: str, role: Role) -> TrustedKey:
        """Return the trusted key of this name and role; raises `KeyFileError` where there is none."""
        fitting = [entry for entry in self.entries() if not entry.revoked_at and entry.role == role]
        for entry in fitting:
            if entry.name == name:
                return entry
        known = [entry.name for entry in fitting]
        advice = near_matches(name, known) if known else f" Run `opentau keys trust {name}.public.yaml --role {role}`."
        raise KeyFileError(f"no trusted key of role {role} is named {name!r} in {self.path}.{advice}")

    def trust(self, name: str, public: str, role: str, *, now: float | None = None) -> TrustedKey:
        """Add a key; raises `KeyFileError` where its name or the key itself stands in the list already."""
        entry = TrustedKey(name=name, public=public, role=str(role), trusted_at=_utc(now))
        if name == OWN_STATIONS:
            raise KeyFileError(f"{OWN_STATIONS!r} names the stations that a session starts itself; choose another name")
        entries = self.entries()
        for known in entries:
            if known.public == public and known.revoked_at:
                raise KeyFileError(f"this key was revoked on {known.revoked_at} as {known.name}; a new one is needed")
            if not known.revoked_at and (known.name == name or known.public == public):
                raise KeyFileError(
                    f"{known.name} is trusted already as {known.role}; run `opentau keys revoke {known.name}` first"
                )
        self._write([*entries, entry])
        return entry

    def revoke(self, name: str, *, now: float | None = None) -> TrustedKey:
        """End the trust in a key and keep the line; raises `KeyFileError` where nobody of this name is trusted."""
        entries = self.entries()
        trusted = [entry.name for entry in entries if not entry.revoked_at]
        if name not in trusted:
            raise KeyFileError(
                f"no trusted key is named {name!r} in {self.path}.{near_matches(name, trusted) if trusted else ''}"
            )
        revoked = [
            dataclasses.replace(entry, revoked_at=_utc(now)) if entry.name == name and not entry.revoked_at else entry
            for entry in entries
        ]
        self._write(revoked)
        return next(entry for entry in reversed(revoked) if entry.name == name)

    def _write(self, entries: list[TrustedKey]) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_yaml(self.path, [dataclasses.asdict(entry) for entry in entries], mode=_MODE)

    def _read_stamp(self) -> tuple[int, int, int]:
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return 0, 0, 0
        except OSError as error:
            raise KeyFileError(f"the trust list {self.path} cannot be read: {error.strerror}") from error
        return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _utc(now: float | None) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
