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
MIN_AUROC = 0.65
"""What surely lies below is no better than a guess for all that its labels are worth."""
CONFIDENCE = 0.95
NUM_CALIBRATION_BINS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticQuality:
    """Measures of out-of-fold predictions; None where there is nothing to measure them on."""

    spread: float
    """From the 5 % to the 95 % quantile of the predictions over all frames, each measured from the mean of its fold."""
    spearman: float | None
    """Rank correlation of prediction and return over the autonomous frames."""
    calibration_error: float | None
    """Mean distance of prediction and return over tenths of the autonomous frames by prediction."""
    explained_variance: float | None
    """1 - Var(return - prediction) / Var(return) over the attempts' frames within tasks that have both outcomes: 0 is what one
    number a task explains, and below it predictions do harm."""
    explained_variance_upper: float | None
    """One-sided 95 % upper bound of it; episodes are what is independent."""
    auroc: float | None
    """Chance that a success is valued above a failure of its task, by the mean value of the policy's attempt."""
    auroc_upper: float | None
    """One-sided 95 % upper bound of it (DeLong over episodes)."""
    auroc_lower: float | None
    """One-sided 95 % lower bound of it."""
    style_auroc: float | None
    """Chance that a demonstration is valued above a success of the policy in its task, both measured from their returns: far
    from 0.5 the critic goes by who acts, and the policy's good frames look bad to it."""
    style_auroc_lower: float | None
    """One-sided 95 % lower bound of how well it tells the two, whichever it values higher."""
    num_successes: int
    """Successful attempts in the tasks that have both outcomes."""
    num_failures: int

    def metrics(self) -> dict[str, float]:
        """Return what there is under its metric name."""
        return {f"value/{name}": float(value) for name, value in asdict(self).items() if value is not None}


def measure_critic(values: np.ndarray, *, frames: ValueTable, takeover: str, folds: np.ndarray | None = None) -> CriticQuality:
    """Return the quality of out-of-fold values, float32 [F].

    `folds` int64 [E] says which critic scored which episode, None that one scored all. Critics that each say one number differ
    by what their episodes happen to be; that is no spread. Values that are not one a frame raise `DataError`.
    """
    frames.require_values(values)
    attempts = _attempts(values, frames=frames, takeover=takeover)
    contested = [of_task for of_task in attempts.values() if len({attempt.is_success for attempt in of_task}) == 2]
    strata = [(_values_of(of_task, is_success=True), _values_of(of_task, is_success=False)) for of_task in contested]
    auroc, upper = stratified_auroc(strata)
    explained, explained_upper = explained_variance(
        [[(attempt.values, attempt.returns) for attempt in of_task] for of_task in contested]
    )
    style, style_lower = _style(values, attempts, frames=frames, takeover=takeover)
    every = [attempt for of_task in attempts.values() for attempt in of_task]
    attempted_values = np.concatenate([attempt.values for attempt in every]) if every else np.zeros(0)
    attempted_returns = np.concatenate([attempt.returns for attempt in every]) if every else np.zeros(0)
    return CriticQuality(
        spread=_spread(values, fold=None if folds is None else folds[frames.table.episode]),
        spearman=spearman(attempted_values, attempted_returns),
        calibration_error=calibration_error(attempted_values, attempted_returns),
        explained_variance=explained,
        explained_variance_upper=explained_upper,
        auroc=auroc,
        auroc_upper=upper,
        auroc_lower=_lower_bound(strata),
        style_auroc=style,
        style_auroc_lower=style_lower,
        num_successes=sum(len(successes) for successes, _ in strata),
        num_failures=sum(len(failures) for _, failures in strata),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """The policy's first attempt of one episode."""

    is_success: bool
    values: np.ndarray
    """Predictions, float32 [T]."""
    returns: np.ndarray
    """float32 [T]."""

    @property
    def value(self) -> float:
        return float(self.values.mean())

    @property
    def excess(self) -> float:
        """By how much it is valued above what came of it."""
        return float((self.values - self.returns).mean())


def _values_of(attempts: list[_Attempt], *, is_success: bool) -> np.ndarray:
    return np.array([attempt.value for attempt in attempts if attempt.is_success is is_success])


def _attempts(values: np.ndarray, *, frames: ValueTable, takeover: str) -> dict[str, list[_Attempt]]:
    """Return the policy's attempts by task."""
    returns = frames.returns(takeover=takeover)
    is_attempt, is_success = frames.attempts(takeover=takeover)
    found: dict[str, list[_Attempt]] = {}
    for record, succeeded in zip(frames.episodes, is_success, strict=True):
        rows = np.arange(len(values))[frames.rows(record)]
        rows = rows[is_attempt[rows]]
        if len(rows):
            attempt = _Attempt(is_success=bool(succeeded), values=values[rows], returns=returns[rows])
            found.setdefault(record.task_id, []).append(attempt)
    return found


def _style(
    values: np.ndarray, attempts: dict[str, list[_Attempt]], *, frames: ValueTable, takeover: str
) -> tuple[float | None, float | None]:
    """Return how well values tell successful demonstrations from the policy's successes, and the lower bound of it.

    A demonstration that is faster deserves a higher value; what it is valued beyond its return is style.
    """
    returns, shown = frames.returns(takeover=takeover), dict[str, list[float]]()
    for record, is_shown in zip(frames.episodes, frames.is_demonstration, strict=True):
        if is_shown and record.is_success:
            rows = frames.rows(record)
            shown.setdefault(record.task_id, []).append(float((values[rows] - returns[rows]).mean()))
    strata = []
    for task, members in shown.items():
        own = [attempt.excess for attempt in attempts.get(task, []) if attempt.is_success]
        if own:
            strata.append((np.array(members), np.array(own)))
    auroc, upper = stratified_auroc(strata)
    if auroc is None or upper is None:
        return None, None
    lower = _lower_bound(strata)
    assert lower is not None
    return auroc, max(lower, 1 - upper)


def doubts(quality: CriticQuality) -> list[str]:
    """Return what a person should know of a critic that is used all the same, a sentence each."""
    found = []
    is_measured = min(quality.num_successes, quality.num_failures) >= MIN_EPISODES
    if is_measured and quality.auroc_lower is not None and quality.auroc_lower <= 0.5:
        found.append(
            f"the critic is not shown to tell successes from failures: AUROC {quality.auroc:.2f} on {quality.num_successes} "
            f"successes and {quality.num_failures} failures, with {CONFIDENCE:.0%} confidence above {quality.auroc_lower:.2f} "
            "only. Its labels may be noise; collect more episodes (collect.episodes)."
        )
    if quality.style_auroc_lower is not None and quality.auroc is not None and quality.style_auroc_lower > quality.auroc:
        found.append(
            f"the critic tells demonstrations from the policy's own successes (AUROC {quality.style_auroc:.2f}, with "
            f"{CONFIDENCE:.0%} confidence {quality.style_auroc_lower:.2f} or more) better than success from failure "
            f"({quality.auroc:.2f}): it may judge who acts instead of what is done. See docs/value.md."
        )
    return found


def _spread(values: np.ndarray, *, fold: np.ndarray | None) -> float:
    """Return the distance of the 5 % and the 95 % quantile of values [F], less the mean of their fold, int64 [F]."""
    if fold is not None:
        means = np.bincount(fold, values) / np.maximum(1, np.bincount(fold))
        values = values - means[fold]
    low, high = np.quantile(values, [0.05, 0.95])
    return float(high - low)


def require_usable(quality: CriticQuality) -> None:
    """Raise `CriticError` for a critic that surely knows nothing of how episodes end, or says the same of everything.

    Only sure signs stop a run: on ten episodes a critic of true AUROC 0.7 looks worse than chance one time in eight.
    """
    if quality.spread < MIN_SPREAD:
        raise CriticError(
            f"the critic says nearly the same of every frame: 90 % of its values lie within {quality.spread:.4f}, "
            f"at least {MIN_SPREAD:g} are needed. Fit it longer (value.fit.num_updates) or on more episodes."
        )
    if min(quality.num_successes, quality.num_failures) < MIN_EPISODES:
        return
    measured_on = f"on {quality.num_successes} successes and {quality.num_failures} failures it was not fitted on"
    fix = "Its labels would teach the wrong actions. Collect more episodes, check their outcomes, or check the value options."
    if quality.auroc_upper is not None and quality.auroc_upper < MIN_AUROC:
        what = "ranks failures above successes" if quality.auroc_upper < 0.5 else "hardly tells successes from failures"
        raise CriticError(
            f"the critic {what}: AUROC {quality.auroc:.2f}, with {CONFIDENCE:.0%} confidence below {quality.auroc_upper:.2f} "
            f"(0.5 is a guess, at least {MIN_AUROC:g} are needed), {measured_on}. {fix}"
        )
    if quality.explained_variance_upper is not None and quality.explained_variance_upper < 0:
        raise CriticError(
            f"the critic predicts returns worse than one number a task would: explained variance "
            f"{quality.explained_variance:.2f}, with {CONFIDENCE:.0%} confidence below {quality.explained_variance_upper:.2f} "
            f"(0 is that one number), {measured_on}. {fix}"
        )


def explained_variance(
    strata: list[list[tuple[np.ndarray, np.ndarray]]],
) -> tuple[float | None, float | None]:
    """Return how much of the returns' variance values explain within strata of episodes, and the upper bound of it.

    Each episode is (values [T], returns [T]). A constant offset costs nothing. The bound sums over episodes: frames of one
    episode share their outcome.
    """
    gains, total = list[float](), 0.0
    for episodes in strata:
        values, returns = (np.concatenate(columns).astype(np.float64) for columns in zip(*episodes, strict=True))
        episode = np.repeat(np.arange(len(episodes)), [len(own) for own, _ in episodes])
        off = returns - values
        scattered, left = (returns - returns.mean()) ** 2, (off - off.mean()) ** 2
        gains += np.bincount(episode, scattered - left).tolist()
        total += float(scattered.sum())
    if total <= 0 or len(gains) < 2:
        return None, None
    deviation = math.sqrt(len(gains) * float(np.var(gains, ddof=1)))
    return sum(gains) / total, (sum(gains) + NormalDist().inv_cdf(CONFIDENCE) * deviation) / total


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


def _lower_bound(strata: list[tuple[np.ndarray, np.ndarray]]) -> float | None:
    """Return the one-sided lower bound of the AUROC within strata of (successes [M], failures [N])."""
    _, upper = stratified_auroc([(failures, successes) for successes, failures in strata])
    return None if upper is None else 1 - upper


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
