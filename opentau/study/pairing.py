"""Pairing: the cells in which two policies met the same placements, episode by episode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from opentau.errors import DataError
from opentau.study.rows import FINAL, FIRST, PolicyScore, Row

SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two policies on the episodes of one cell; raises `DataError` where these are not the same episodes."""

    cell: tuple[int, int]
    """(task, seed)."""
    candidate: PolicyScore
    baseline: PolicyScore

    def __post_init__(self) -> None:
        where = f"cell (task {self.cell[0]}, seed {self.cell[1]})"
        if self.candidate.eval_spec != self.baseline.eval_spec:
            raise DataError(
                f"{where}: the eval-specs {self.candidate.eval_spec} and {self.baseline.eval_spec} differ, so the episodes "
                "are not pairs; evaluate both policies with the same placements, limits and versions"
            )
        counts = {len(column) for score in (self.candidate, self.baseline) for column in (score.is_success, score.num_steps)}
        if len(counts) != 1 or counts == {0}:
            raise DataError(
                f"{where}, eval-spec {self.candidate.eval_spec}: {self.candidate.episodes} episodes meet "
                f"{self.baseline.episodes}, with {sorted(counts)} entries a column; score all of them with both policies"
            )

    @property
    def num_episodes(self) -> int:
        return self.candidate.episodes


def pair_variants(rows: Sequence[Row], *, candidate: str, baseline: str, score: str = FINAL) -> tuple[Pair, ...]:
    """Pair one score of two variants on the cells that both have run, ordered by cell."""
    ours, theirs = rows_by_cell(rows, variant=candidate), rows_by_cell(rows, variant=baseline)
    return tuple(
        Pair(cell=cell, candidate=ours[cell].scores[score], baseline=theirs[cell].scores[score])
        for cell in sorted(ours.keys() & theirs.keys())
        if score in ours[cell].scores and score in theirs[cell].scores
    )


def pair_scores(rows: Sequence[Row], *, variant: str, candidate: str = FINAL, baseline: str = FIRST) -> tuple[Pair, ...]:
    """Pair two scores of one variant on the cells that have both, ordered by cell."""
    return tuple(
        Pair(cell=cell, candidate=row.scores[candidate], baseline=row.scores[baseline])
        for cell, row in rows_by_cell(rows, variant=variant).items()
        if candidate in row.scores and baseline in row.scores
    )


def rows_by_cell(rows: Sequence[Row], *, variant: str) -> dict[tuple[int, int], Row]:
    """Return a variant's rows by (task, seed), ordered by it; a cell that occurs twice raises `DataError`."""
    by_cell: dict[tuple[int, int], Row] = {}
    for row in sorted((row for row in rows if row.variant == variant), key=lambda row: row.cell):
        if row.cell in by_cell:
            raise DataError(
                f"variant {variant!r} has two rows for task {row.task}, seed {row.seed}: runs {by_cell[row.cell].run} and "
                f"{row.run}; keep one"
            )
        by_cell[row.cell] = row
    return by_cell


def charged_hours(score: PolicyScore) -> np.ndarray:
    """Return the simulated hours of every episode, failures at their full limit, float64 [N]."""
    return np.where(score.is_success, score.num_steps, score.max_steps) / score.control_hz / SECONDS_PER_HOUR
