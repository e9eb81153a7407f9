"""What is wrong with a dataset, one finding a defect: where it is, which value it has, what to do about it."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Progress = Callable[[int, int], None]
"""Called with how many episodes are done, and of how many."""

MAX_NAMED = 5
"""Episodes that a sentence names; the finding lists all of them."""


class Severity(enum.StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """Training on it as it is would fail or learn from wrong data."""
    WARNING = "warning"
    """Possible in a good dataset, but worth a look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One defect."""

    severity: Severity
    code: str
    """Short name of the kind of defect, for example 'dead-dimension'."""
    text: str
    """A sentence with the value and where it is."""
    fix: str
    """What to do."""
    path: str = ""
    """File, relative to the dataset, where one file is to blame."""
    episodes: tuple[int, ...] = ()
    """`episode_index` of those that have it; empty when it is the whole dataset's."""
    frame: int | None = None
    """First frame of the first of `episodes` that has it."""
    dimension: str = ""
    """Feature and dimension, for example 'action 6 (gripper)'."""
    camera: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data without what is not set."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in plain.items() if value not in ("", (), None)}


def named_episodes(episodes: Sequence[int]) -> str:
    """Return 'episode 3', or 'episodes 3, 8 and 12', or the first few and how many more."""
    shown = [str(index) for index in episodes[:MAX_NAMED]]
    if len(episodes) == 1:
        return f"episode {shown[0]}"
    if len(episodes) > MAX_NAMED:
        return f"episodes {', '.join(shown)} and {len(episodes) - MAX_NAMED} more"
    return f"episodes {', '.join(shown[:-1])} and {shown[-1]}"


def dimension_name(feature: str, dim: int, names: Sequence[str]) -> str:
    """Return 'action 6 (gripper)', or 'action 6' where the dataset has no name for it but its number."""
    name = names[dim] if dim < len(names) else str(dim)
    return f"{feature} {dim}" if name == str(dim) else f"{feature} {dim} ({name})"
