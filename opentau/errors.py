"""Every error that a user can cause or must act on; each message names the value, the limit and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any


class OpenTauError(Exception):
    """Base of all errors that the command line prints without a traceback."""


class OptionError(OpenTauError):
    """An option, name or override that does not exist or does not fit."""


class InterfaceMismatch(OpenTauError):
    """Policy and station do not speak of the same cameras, state or actions."""

    def __init__(self, *, station_id: str, rows: Sequence[tuple[str, Any, Any]]) -> None:
        self.rows = list(rows)
        lines = [f"  {key}: policy expects {wanted}, station offers {offered}" for key, wanted, offered in rows]
        super().__init__(
            f"station {station_id} does not fit the policy:\n"
            + "\n".join(lines)
            + "\nUse an environment with the options the policy was trained on, or train on this one."
        )


class DataError(OpenTauError):
    """A dataset that is damaged, incomplete or of an unknown layout."""


class CheckpointError(OpenTauError):
    """A checkpoint that is damaged, incomplete or of another model."""


class RenderingError(OpenTauError):
    """No usable OpenGL."""


class TrainingError(OpenTauError):
    """Training cannot go on, for example a loss that is not finite."""


class CriticError(OpenTauError):
    """The value function is too poor to label with; the loop stops and explains."""


class StationError(OpenTauError):
    """Stations die or misbehave more often than can be repaired."""


class RobotError(OpenTauError):
    """A motor, sensor or camera that is missing, silent or wrongly set up."""


class RunError(OpenTauError):
    """A run directory that cannot be used: locked by another process, or made with other options."""


class StorageError(OpenTauError):
    """The disk is full or cannot be written; what was recorded stays."""


def near_matches(name: str, known: Iterable[str]) -> str:
    """Return ' Did you mean a or b?' (or the first known names) for an error about an unknown name."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return " Did you mean " + " or ".join(repr(match) for match in close) + "?"
    shown = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
    return f" Known: {shown}."


class LinkError(OpenTauError):
    """A message or a socket of the bridge that is refused, or a peer that stopped answering."""


class KeyFileError(OpenTauError):
    """A key or trust list that is missing, damaged, readable by others, or not what is asked for."""


class LeaseError(OpenTauError):
    """A command that its sender may not give, not now or not any more."""


class PolicyError(OpenTauError):
    """A served policy cannot answer, or proposes actions that are not finite."""
