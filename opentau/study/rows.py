"""Raw rows of a study: what one variant reached on one task with one seed, episode by episode."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from opentau.checkpoint import write_json
from opentau.config import options_from

FIRST, FINAL = "first", "final"
"""Scores that every row has: iteration 0's policy, and the one that stands at the end."""
COLLECT_PREFIX = "collect-"
"""Of the stages that play episodes to learn from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyScore:
    """The episodes of one policy; equal eval-specs mean that they are paired by position."""

    policy: str
    """Checkpoint id."""
    eval_spec: str
    max_steps: int
    """Control steps that a failure is charged with."""
    control_hz: float
    is_success: tuple[bool, ...]
    """Per episode."""
    num_steps: tuple[int, ...]
    """Control steps played, per episode."""

    @property
    def episodes(self) -> int:
        return len(self.is_success)

    @property
    def successes(self) -> int:
        return sum(self.is_success)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a run of a study reached on one of its tasks."""

    variant: str
    task: int
    """Number of the task in its environment; with the seed it names the cell."""
    seed: int
    options_id: str
    """Hash of all options of the run."""
    run: str
    """Name of the run's directory."""
    scores: Mapping[str, PolicyScore]
    """'first', 'final', and further ones such as 'final-negative' (served with another indicator)."""
    cpu_seconds: float
    """Of all stages the row rests on, shared ones included; of a run of several tasks an equal share."""
    own_cpu_seconds: float
    """Of the stages that no earlier run of its cell rests on, shared alike; the sum over all rows is what a study cost."""
    facts: Mapping[str, float] = field(default_factory=dict)
    """Measures of the run by metric name, for example 'value/auroc' or 'train/cond_gap'."""
    curves: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    """(update, value) by name, for example 'sft-0 train/held_out_loss'."""

    @property
    def cell(self) -> tuple[int, int]:
        """Return (task, seed)."""
        return self.task, self.seed

    def collected(self, name: str) -> float | None:
        """Return the sum of a fact, such as 'episodes', over the stages that collect; None where none of them tells it."""
        told = [value for fact, value in self.facts.items() if fact.startswith(COLLECT_PREFIX) and fact.split()[1] == name]
        return sum(told) if told else None


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows sorted by variant, task and seed, atomically."""
    ordered = sorted(rows, key=lambda row: (row.variant, row.task, row.seed))
    write_json(path, [asdict(row) for row in ordered])


def read_rows(path: Path) -> list[Row]:
    """Read what `write_rows` wrote."""
    return [row_from(plain) for plain in json.loads(path.read_text())]


def row_from(plain: Mapping[str, Any]) -> Row:
    """Build a row from plain data; what does not fit raises `OptionError`."""
    scores = {name: options_from(PolicyScore, score, where=f"row.scores.{name}") for name, score in plain["scores"].items()}
    curves = {name: tuple((float(x), float(y)) for x, y in points) for name, points in plain.get("curves", {}).items()}
    return options_from(Row, {**plain, "scores": scores, "curves": curves}, where="row")
