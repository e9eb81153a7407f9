"""Patterns of names as options write them, such as 'vision.*'."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase

from opentau.errors import OptionError, near_matches


def last_matches(patterns: Iterable[str], names: Collection[str], *, option: str, what: str = "parameter") -> dict[str, str]:
    """Return every name that a pattern matches with the last such pattern; one that matches none raises `OptionError`."""
    found: dict[str, str] = {}
    for pattern in patterns:
        matching = [name for name in names if fnmatchcase(name, pattern)]
        if not matching:
            raise OptionError(f"{option}: no {what} matches {pattern!r}.{near_matches(pattern, names)}")
        found |= dict.fromkeys(matching, pattern)
    return found
