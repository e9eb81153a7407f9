"""Per-dimension statistics of states and actions, with true quantiles of the data, from one pass over it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from opentau.errors import DataError
from opentau.types import Episode, content_hash

# Shapes: N rows, D dimensions.

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
EXACT_ROWS = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DimStatistics:
    """Statistics of N rows of D numbers; every field but `count` has one number per dimension."""

    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Population standard deviation."""
    q01: tuple[float, ...]
    """The smallest observed value with at least 1 % of the rows at or below it; the other quantiles likewise."""
    q10: tuple[float, ...]
    q50: tuple[float, ...]
    q90: tuple[float, ...]
    q99: tuple[float, ...]
    count: int
    """N."""

    def __post_init__(self) -> None:
        lengths = {len(value) for value in dataclasses.astuple(self) if isinstance(value, tuple)}
        if len(lengths) != 1:
            raise DataError(f"statistics need one number per dimension in every field, got fields of lengths {sorted(lengths)}")

    @property
    def dim(self) -> int:
        return len(self.mean)

    @classmethod
    def of(cls, rows: np.ndarray) -> DimStatistics:
        """Return the statistics of rows [N, D]."""
        stream = StreamingStatistics(rows.shape[1])
        stream.add(rows)
        return stream.finish()

    @classmethod
    def of_histogram(cls, counts: np.ndarray, values: np.ndarray) -> DimStatistics:
        """Return the statistics of data given as counts [D, K] of K ascending values."""
        total = counts.sum(axis=1)
        ranks = np.cumsum(counts, axis=1)
        mean = (counts * values).sum(axis=1) / total
        variance = (counts * (values - mean[:, None]) ** 2).sum(axis=1) / total
        targets = {name: _rank(fraction, int(total[0])) for name, fraction in QUANTILES.items()}
        return cls(
            minimum=_floats(values[(counts > 0).argmax(axis=1)]),
            maximum=_floats(values[(ranks >= total[:, None]).argmax(axis=1)]),
            mean=_floats(mean),
            std=_floats(np.sqrt(variance)),
            count=int(total[0]),
            **{name: _floats(values[(ranks >= target).argmax(axis=1)]) for name, target in targets.items()},
        )

    def to_dict(self) -> dict[str, Any]:
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> DimStatistics:
        """Build from `to_dict`; unknown and missing keys are a `DataError`."""
        names = {field.name for field in dataclasses.fields(cls)}
        if set(plain) != names:
            raise DataError(f"statistics have the keys {sorted(names)}, got {sorted(plain)}")
        columns = {name: tuple(float(number) for number in plain[name]) for name in names - {"count"}}
        return cls(count=int(plain["count"]), **columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Statistics of the states and of the training-target actions of a set of episodes."""

    state: DimStatistics
    action: DimStatistics

    @classmethod
    def of_episodes(cls, episodes: Iterable[Episode]) -> Statistics:
        """Return the statistics of all frames; episodes are read once and not kept. No episodes is a `DataError`."""
        streams: tuple[StreamingStatistics, StreamingStatistics] | None = None
        for episode in episodes:
            if streams is None:
                streams = (StreamingStatistics(episode.state.shape[1]), StreamingStatistics(episode.action.shape[1]))
            streams[0].add(episode.state)
            streams[1].add(episode.action)
        if streams is None:
            raise DataError("statistics of no episodes: the dataset is empty; record or name at least one episode")
        return cls(state=streams[0].finish(), action=streams[1].finish())

    @property
    def id(self) -> str:
        """Content hash: equal statistics have equal ids."""
        return content_hash(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        return {"state": self.state.to_dict(), "action": self.action.to_dict()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Statistics:
        return cls(state=DimStatistics.from_dict(plain["state"]), action=DimStatistics.from_dict(plain["action"]))


class StreamingStatistics:
    """Collect statistics of rows that come in pieces, in bounded memory.

    Up to `exact_rows` rows everything is exact. Beyond that, quantiles come from a ladder of buffers: a full buffer is sorted
    per dimension and every second value moves one rung up, where it counts twice (Munro & Paterson 1980). With L rungs above
    the first, the rank error is at most L / exact_rows of the rows: about 7e-6 at a hundred million rows.
    """

    def __init__(self, dim: int, *, exact_rows: int = EXACT_ROWS) -> None:
        if exact_rows < 2 or exact_rows % 2:
            raise ValueError(f"exact_rows is {exact_rows}; it must be even and at least 2")
        self._exact_rows = exact_rows
        self._rungs: list[list[np.ndarray]] = [[]]
        self._takes_odd = [False]
        self._count = 0
        self._minimum = np.full(dim, np.inf)
        self._maximum = np.full(dim, -np.inf)
        self._mean = np.zeros(dim)
        self._squares = np.zeros(dim)

    def add(self, rows: np.ndarray) -> None:
        """Add rows [N, D]; numbers that are not finite raise `DataError`."""
        if rows.ndim != 2 or rows.shape[1] != len(self._mean):
            raise DataError(f"statistics of {len(self._mean)} dimensions got rows of shape {rows.shape}; expected [N, D]")
        if not np.isfinite(rows).all():
            row, dim = np.argwhere(~np.isfinite(rows))[0]
            raise DataError(f"row {row}, dimension {dim} is {rows[row, dim]}; states and actions must be finite numbers")
        for start in range(0, len(rows), self._exact_rows):
            self._add_piece(rows[start : start + self._exact_rows].astype(np.float64))

    def _add_piece(self, rows: np.ndarray) -> None:
        if not len(rows):
            return
        total = self._count + len(rows)
        mean = rows.mean(axis=0)
        difference = mean - self._mean
        self._squares += ((rows - mean) ** 2).sum(axis=0) + difference**2 * (self._count * len(rows) / total)
        self._mean += difference * (len(rows) / total)
        self._minimum = np.minimum(self._minimum, rows.min(axis=0))
        self._maximum = np.maximum(self._maximum, rows.max(axis=0))
        self._count = total
        self._push(rows, rung=0)

    def _push(self, rows: np.ndarray, *, rung: int) -> None:
        """Put rows on a rung; while it holds more than its capacity, thin that many and pass the half upwards."""
        self._rungs[rung].append(rows)
        if sum(len(piece) for piece in self._rungs[rung]) <= self._exact_rows:
            return
        stacked = np.concatenate(self._rungs[rung])
        full, rest = stacked[: self._exact_rows], stacked[self._exact_rows :]
        self._rungs[rung] = [rest] if len(rest) else []
        if rung + 1 == len(self._rungs):
            self._rungs.append([])
            self._takes_odd.append(False)
        first = int(self._takes_odd[rung])
        self._takes_odd[rung] = not self._takes_odd[rung]
        self._push(np.sort(full, axis=0)[first::2], rung=rung + 1)

    def finish(self) -> DimStatistics:
        """Return the statistics of all rows added so far; none at all is a `DataError`."""
        if not self._count:
            raise DataError("statistics of no rows: the dataset is empty; record or name at least one episode")
        pieces = [(np.concatenate(pieces), 2.0**rung) for rung, pieces in enumerate(self._rungs) if pieces]
        values = np.concatenate([rows for rows, _ in pieces])
        weights = np.concatenate([np.full(len(rows), weight) for rows, weight in pieces])
        order = np.argsort(values, axis=0, kind="stable")
        ranked = np.take_along_axis(values, order, axis=0)
        ranks = np.cumsum(weights[order], axis=0)
        targets = {name: _rank(fraction, self._count) for name, fraction in QUANTILES.items()}
        quantiles = {name: _first_at_least(ranked, ranks, target) for name, target in targets.items()}
        return DimStatistics(
            minimum=_floats(self._minimum),
            maximum=_floats(self._maximum),
            mean=_floats(self._mean),
            std=_floats(np.sqrt(self._squares / self._count)),
            count=self._count,
            **quantiles,
        )


def _rank(fraction: float, count: int) -> int:
    """Return how many of `count` values must lie at or below the quantile; 0.99 * 100 is 99 despite its rounding."""
    return math.ceil(fraction * count * (1 - 1e-12))


def _first_at_least(ranked: np.ndarray, ranks: np.ndarray, target: float) -> tuple[float, ...]:
    """Return per dimension the first of the ascending values [M, D] whose cumulative rank [M, D] reaches `target`."""
    rows = np.minimum((ranks < target).sum(axis=0), len(ranked) - 1)
    return _floats(ranked[rows, np.arange(ranked.shape[1])])


def _floats(numbers: np.ndarray) -> tuple[float, ...]:
    return tuple(float(number) for number in numbers)
