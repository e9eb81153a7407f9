"""How good a critic is, measured on episodes it was not fitted on, and when it is too poor to label with."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np

from opentau.errors import CriticError
from opentau.value.bins import HIGH, LOW
from opentau.value.table import ValueTable

# Shapes: F frames, M successes, N failures.

MIN_SPREAD = 0.01 * (HIGH - LOW)
MIN_EPISODES = 8
CONFIDENCE = 0.95
NUM_CALIBRATION_BINS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticQuality:
    """Measures of out-of-fold predictions; None where there is nothing to measure them on."""

    spread: float
    """From the 5 % to the 95 % quantile of the predictions over all frames."""
    spearman: float | None
    """Rank correlation of prediction and return over the autonomous frames."""
    calibration_error: float | None
    """Mean distance of prediction and return over tenths of the autonomous frames by prediction."""
    auroc: float | None
    """Chance that a success is valued above a failure of its task, by the mean value of the policy's attempt."""
    auroc_upper: float | None
    """One-sided 95 % upper bound of it (DeLong over episodes)."""
    num_successes: int
    """Successful attempts in the tasks that have both outcomes."""
    num_failures: int

    def metrics(self) -> dict[str, float]:
        """Return what there is under its metric name."""
        return {f"value/{name}": float(value) for name, value in asdict(self).items() if value is not None}


def measure_critic(values: np.ndarray, *, frames: ValueTable, takeover: str) -> CriticQuality:
    """Return the quality of out-of-fold values, float32 [F]."""
    returns = frames.returns(takeover=takeover)
    is_attempt, is_success = frames.attempts(takeover=takeover)
    scores: dict[str, tuple[list[float], list[float]]] = {}
    for record, succeeded in zip(frames.episodes, is_success, strict=True):
        rows = frames.rows(record)
        if is_attempt[rows].any():
            of_task = scores.setdefault(record.task_id, ([], []))
            of_task[0 if succeeded else 1].append(float(values[rows][is_attempt[rows]].mean()))
    contested = [(np.array(s), np.array(f)) for s, f in scores.values() if s and f]
    auroc, upper = stratified_auroc(contested)
    attempted_values, attempted_returns = values[is_attempt], returns[is_attempt]
    low, high = np.quantile(values, [0.05, 0.95])
    return CriticQuality(
        spread=float(high - low),
        spearman=spearman(attempted_values, attempted_returns),
        calibration_error=calibration_error(attempted_values, attempted_returns),
        auroc=auroc,
        auroc_upper=upper,
        num_successes=sum(len(successes) for successes, _ in contested),
        num_failures=sum(len(failures) for _, failures in contested),
    )


def require_usable(quality: CriticQuality) -> None:
    """Raise `CriticError` for a critic that says the same of everything, or surely ranks failures above successes.

    Only sure signs stop a run: on ten episodes a critic of true AUROC 0.7 looks worse than chance one time in eight.
    """
    if quality.spread < MIN_SPREAD:
        raise CriticError(
            f"the critic says nearly the same of every frame: 90 % of its values lie within {quality.spread:.4f}, "
            f"at least {MIN_SPREAD:g} are needed. Fit it longer (value.fit.num_updates) or on more episodes."
        )
    is_measured = min(quality.num_successes, quality.num_failures) >= MIN_EPISODES
    if is_measured and quality.auroc_upper is not None and quality.auroc_upper < 0.5:
        raise CriticError(
            f"the critic ranks failures above successes: AUROC {quality.auroc:.2f}, with {CONFIDENCE:.0%} confidence below "
            f"{quality.auroc_upper:.2f}, on {quality.num_successes} successes and {quality.num_failures} failures it was not "
            "fitted on. Its labels would teach the wrong actions. Collect more episodes, or check the value options."
        )


def stratified_auroc(strata: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float | None, float | None]:
    """Return the AUROC within strata of (successes [M], failures [N]), weighted by pairs, and its upper bound.

    DeLong et al. (1988), "Comparing the areas under two or more correlated receiver operating characteristic curves".
    """
    if not strata:
        return None, None
    num_pairs = np.array([len(successes) * len(failures) for successes, failures in strata])
    weights = num_pairs / num_pairs.sum()
    areas, variances = np.array([_delong(successes, failures) for successes, failures in strata]).T
    area, deviation = float(weights @ areas), math.sqrt(float(weights**2 @ variances))
    return area, min(1.0, area + NormalDist().inv_cdf(CONFIDENCE) * deviation)


def _delong(successes: np.ndarray, failures: np.ndarray) -> tuple[float, float]:
    above_MN = (successes[:, None] > failures) + 0.5 * (successes[:, None] == failures)
    of_success_M, of_failure_N = above_MN.mean(axis=1), above_MN.mean(axis=0)
    variance = sum(float(np.var(part, ddof=1)) / len(part) for part in (of_success_M, of_failure_N) if len(part) > 1)
    return float(above_MN.mean()), variance


def spearman(x: np.ndarray, y: np.ndarray) -> float | None:
    """Return the rank correlation with ties at their mean rank; None where one side is constant."""
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])


def _ranks(x: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def calibration_error(values: np.ndarray, returns: np.ndarray) -> float | None:
    """Return the mean over equal parts of the frames, in order of value, of |mean value - mean return|."""
    if len(values) < NUM_CALIBRATION_BINS:
        return None
    parts = np.array_split(np.argsort(values, kind="stable"), NUM_CALIBRATION_BINS)
    return float(np.mean([abs(values[part].mean() - returns[part].mean()) for part in parts]))
