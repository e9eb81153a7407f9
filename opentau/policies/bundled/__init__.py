"""Trained policies that come with OpenTau: one folder each, a sealed checkpoint with its card and what it is scored on.

`policy=bundled/NAME` and `bundled:NAME` mean them wherever a checkpoint is named.
The commands that made them are in docs/results.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentau.checkpoint import is_complete
from opentau.errors import OptionError, near_matches

PREFIX = "bundled:"
SCORED_FILE, CARD_FILE = "scored.json", "CARD.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What a bundled policy is scored on unless a command says otherwise."""

    options: Mapping[str, str]
    """Of a run, in the order in which a command line would have them, `env` first."""
    episodes: int
    """Per task."""
    is_official: bool

    @classmethod
    def read(cls, checkpoint: Path) -> Scored | None:
        """Return what lies beside a checkpoint's files, or None beside those that are not bundled."""
        path = checkpoint / SCORED_FILE
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None

    def missing_from(self, words: list[str]) -> list[str]:
        """Return the options that a command line does not give; all of them belong to one environment, none to another."""
        given: dict[str, Any] = dict(word.split("=", 1) for word in words if "=" in word)
        if given.get("env", self.options["env"]) != self.options["env"]:
            return []
        return [f"{name}={value}" for name, value in self.options.items() if name not in given]


def bundled() -> dict[str, Path]:
    """Return the folder of every bundled policy by its name."""
    return {path.name: path for path in sorted(Path(__file__).parent.iterdir()) if is_complete(path)}


def checkpoint_path(named: str) -> Path:
    """Return the folder that is meant: a path, or one of the bundled policies; raises `OptionError` for an unknown one."""
    if not named.startswith(PREFIX):
        return Path(named).expanduser()
    name, known = named.removeprefix(PREFIX), bundled()
    if name not in known:
        raise OptionError(f"no policy {name!r} comes with OpenTau.{near_matches(name, known)}")
    return known[name]
