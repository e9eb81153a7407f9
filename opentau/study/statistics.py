"""Statistics of paired episodes: differences, throughput ratios and steps to success, each with its interval."""

# Shapes: D bootstrap draws, N episodes of one cell, C cells, M episodes of all cells, K columns, V distinct values.

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from opentau.errors import DataError
from opentau.study.pairing import Pair, charged_hours

CONFIDENCE = 0.95
NUM_DRAWS = 10_000
NUM_SIGN_DRAWS = 100_000
MAX_ENUMERATED_CELLS = 16
"""Up to this many cells the sign-flip test counts every assignment of signs."""
DRAWS_AT_ONCE = 1000
"""Of the medians' bootstrap, which holds all cells of a draw; bounds its memory."""
TIE_TOLERANCE = 1e-9
"""Sums of shares that differ by less are equal; above rounding, below one episode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A two-sided 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessDifference:
    """Candidate minus baseline in success share; every cell weighs the same."""

    estimate: float
    """Mean over the cells."""
    by_cell: tuple[float, ...]
    """In the order of the pairs."""
    bootstrap: Interval
    """Of the episodes: pairs resampled within each cell, cells fixed."""
    student: Interval | None
    """Of the cells, which it takes for a sample of all cells; None with fewer than two."""
    p_value: float
    """Two-sided sign-flip test with cells as clusters."""
    num_cells: int
    num_episodes: int
    """Pairs of all cells."""

    @property
    def num_negative(self) -> int:
        """Cells in which the candidate succeeded less often."""
        return sum(difference < 0 for difference in self.by_cell)


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputRatio:
    """Successes per simulated hour, candidate over baseline; failures are charged their full limit."""

    candidate_rate: float
    """Successes per hour, mean over the cells."""
    baseline_rate: float
    estimate: float | None
    """Ratio of the two; None where the baseline never succeeded."""
    bootstrap: Interval | None
    """Pairs resampled within each cell; infinite where the baseline's successes may all be missing from a draw."""
    reason: str
    """Why there is no ratio; empty where there is one."""
    num_cells: int
    num_episodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsToSuccess:
    """Control steps on the episodes that both policies solve, all cells together."""

    candidate_median: float
    baseline_median: float
    difference: float
    """Candidate minus baseline; negative is faster."""
    bootstrap: Interval
    """Of the difference: episodes that both solve, resampled within each cell."""
    num_cells: int
    """Cells with such episodes."""
    num_episodes: int


def success_difference(pairs: Sequence[Pair], *, seed: int, num_draws: int = NUM_DRAWS) -> SuccessDifference:
    """Return how much more often the candidate succeeds, with an interval of the episodes and one of the cells."""
    _check_not_empty(pairs)
    rng = np.random.default_rng(seed)
    columns = [np.subtract(pair.candidate.is_success, pair.baseline.is_success, dtype=np.float64) for pair in pairs]
    by_cell = tuple(float(column_N.mean()) for column_N in columns)
    drawn_D = np.zeros(num_draws)
    for column_N in columns:
        drawn_D += resample_counts(len(column_N), rng=rng, num_draws=num_draws) @ column_N / len(column_N)
    return SuccessDifference(
        estimate=math.fsum(by_cell) / len(pairs),
        by_cell=by_cell,
        bootstrap=_percentile_interval(drawn_D / len(pairs)),
        student=student_interval(by_cell),
        p_value=sign_flip_p_value(by_cell, seed=seed),
        num_cells=len(pairs),
        num_episodes=sum(pair.num_episodes for pair in pairs),
    )


def throughput_ratio(pairs: Sequence[Pair], *, seed: int, num_draws: int = NUM_DRAWS) -> ThroughputRatio:
    """Return the ratio of successes per simulated hour, each policy's rate being the mean over the cells."""
    _check_not_empty(pairs)
    rng = np.random.default_rng(seed)
    rates_K, drawn_DK = np.zeros(2), np.zeros((num_draws, 2))  # K: candidate, baseline
    for pair in pairs:
        scores = (pair.candidate, pair.baseline)
        successes_NK = np.stack([np.asarray(score.is_success, dtype=np.float64) for score in scores], axis=1)
        hours_NK = np.stack([charged_hours(score) for score in scores], axis=1)
        rates_K += successes_NK.sum(axis=0) / hours_NK.sum(axis=0)
        counts_DN = resample_counts(pair.num_episodes, rng=rng, num_draws=num_draws)
        drawn_DK += (counts_DN @ successes_NK) / (counts_DN @ hours_NK)
    candidate_rate, baseline_rate = (float(rate) for rate in rates_K / len(pairs))
    num_episodes = sum(pair.num_episodes for pair in pairs)
    return ThroughputRatio(
        candidate_rate=candidate_rate,
        baseline_rate=baseline_rate,
        estimate=candidate_rate / baseline_rate if baseline_rate else None,
        bootstrap=_ratio_interval(drawn_DK) if baseline_rate else None,
        reason="" if baseline_rate else f"the baseline solved none of its {num_episodes} episodes",
        num_cells=len(pairs),
        num_episodes=num_episodes,
    )


def steps_to_success(pairs: Sequence[Pair], *, seed: int, num_draws: int = NUM_DRAWS) -> StepsToSuccess | None:
    """Return both median steps on the episodes that both policies solve; None if there are none."""
    solved = [_steps_where_both_succeed(pair) for pair in pairs]
    cells = [steps_NK for steps_NK in solved if len(steps_NK)]
    if not cells:
        return None
    steps_MK = np.concatenate(cells)
    rng = np.random.default_rng(seed)
    drawn = []
    for first in range(0, num_draws, DRAWS_AT_ONCE):
        size = min(DRAWS_AT_ONCE, num_draws - first)
        counts_DM = np.concatenate([resample_counts(len(cell), rng=rng, num_draws=size) for cell in cells], axis=1)
        drawn.append(_weighted_medians(steps_MK[:, 0], counts_DM) - _weighted_medians(steps_MK[:, 1], counts_DM))
    candidate_median, baseline_median = (float(median) for median in np.median(steps_MK, axis=0))
    return StepsToSuccess(
        candidate_median=candidate_median,
        baseline_median=baseline_median,
        difference=candidate_median - baseline_median,
        bootstrap=_percentile_interval(np.concatenate(drawn)),
        num_cells=len(cells),
        num_episodes=len(steps_MK),
    )


def student_interval(values: Sequence[float]) -> Interval | None:
    """Return the t interval of the mean of independent values; None with fewer than two."""
    if len(values) < 2:
        return None
    mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(stdtrit(len(values) - 1, 0.5 + CONFIDENCE / 2)) * deviation / math.sqrt(len(values))
    return Interval(low=mean - half, high=mean + half)


def sign_flip_p_value(differences: Sequence[float], *, seed: int) -> float:
    """Return the two-sided p-value of the permutation test that flips the sign of whole cells (Fisher 1935).

    Exact up to `MAX_ENUMERATED_CELLS` cells; beyond, `NUM_SIGN_DRAWS` drawn assignments and the observed one.
    """
    differences_C = np.asarray(differences, dtype=np.float64)
    num_cells = len(differences_C)
    limit = abs(math.fsum(differences)) - TIE_TOLERANCE
    if num_cells <= MAX_ENUMERATED_CELLS:
        bits_DC = np.arange(2**num_cells)[:, None] >> np.arange(num_cells) & 1
        return float(np.mean(np.abs((1 - 2 * bits_DC) @ differences_C) >= limit))
    bits_DC = np.random.default_rng(seed).integers(0, 2, (NUM_SIGN_DRAWS, num_cells))
    return float(1 + np.sum(np.abs((1 - 2 * bits_DC) @ differences_C) >= limit)) / (1 + NUM_SIGN_DRAWS)


def resample_counts(num_episodes: int, *, rng: np.random.Generator, num_draws: int) -> np.ndarray:
    """Return how often each bootstrap draw takes each episode, float32 [D, N] for matrix products; rows sum to N."""
    drawn_DN = rng.integers(0, num_episodes, (num_draws, num_episodes), dtype=np.int32)
    slots_DN = drawn_DN + num_episodes * np.arange(num_draws)[:, None]
    return np.bincount(slots_DN.ravel(), minlength=slots_DN.size).reshape(slots_DN.shape).astype(np.float32)


def _steps_where_both_succeed(pair: Pair) -> np.ndarray:
    """Return (candidate's, baseline's) steps, int64 [N, 2], of the episodes that both solve."""
    is_solved_N = np.logical_and(pair.candidate.is_success, pair.baseline.is_success)
    return np.stack([pair.candidate.num_steps, pair.baseline.num_steps], axis=1)[is_solved_N]


def _weighted_medians(values_M: np.ndarray, counts_DM: np.ndarray) -> np.ndarray:
    """Return the median [D] of the values, each taken as often as a draw counts it; all draws have M values."""
    grid_V, num_values = np.unique(values_M), len(values_M)
    reached_DV = counts_DM @ (values_M[:, None] <= grid_V).astype(np.float32)
    middle = [grid_V[np.argmax(reached_DV > rank, axis=1)] for rank in ((num_values - 1) // 2, num_values // 2)]
    return (middle[0] + middle[1]) / 2


def _percentile_interval(drawn_D: np.ndarray) -> Interval:
    low, high = np.quantile(drawn_D, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    return Interval(low=float(low), high=float(high))


def _ratio_interval(drawn_DK: np.ndarray) -> Interval:
    """Return the percentile interval of candidate over baseline rates.

    A draw in which neither policy succeeds says nothing, so it counts as 0 for the lower end and as infinite for the
    upper one. Quantiles are values of draws, not between two of them, because infinite ones cannot be averaged.
    """
    candidate_D, baseline_D = drawn_DK[:, 0], drawn_DK[:, 1]
    ratios_D = np.divide(candidate_D, baseline_D, out=np.full(len(drawn_DK), np.inf), where=baseline_D > 0)
    lowest_D = np.where((candidate_D == 0) & (baseline_D == 0), 0.0, ratios_D)
    low = np.quantile(lowest_D, 0.5 - CONFIDENCE / 2, method="inverted_cdf")
    high = np.quantile(ratios_D, 0.5 + CONFIDENCE / 2, method="inverted_cdf")
    return Interval(low=float(low), high=float(high))


def _check_not_empty(pairs: Sequence[Pair]) -> None:
    if not pairs:
        raise DataError("there is no cell with rows of both sides to compare; run at least one (task, seed) of each")
