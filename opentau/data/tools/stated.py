"""The statistics that a dataset states of itself, and where they contradict its data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from opentau.data.lerobot import layout
from opentau.data.lerobot.catalog import FIX_FETCHED, read_json
from opentau.data.parquet import damaged
from opentau.data.statistics import QUANTILES, DimStatistics
from opentau.data.tools.findings import dimension_name

# Shapes: D dimensions.

STATISTICS = ("min", "max", "mean", "std", *QUANTILES)
EPISODES_STATS_PATH = "meta/episodes_stats.jsonl"
"""Where v2.1 keeps statistics, one line an episode."""
TOLERANCE = 0.01
"""Of the standard deviation for mean and std, of the range for quantiles: sampling and float32 sums stay well below it."""
ROUNDING = 1e-5
"""Of the largest value: what float32 and decimal text may lose of a minimum or maximum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contradiction:
    """One number of the stated statistics that the data does not bear out."""

    feature: str
    dimension: str
    statistic: str
    """'min', 'max', 'mean', 'std' or a quantile."""
    stated: float
    found: float
    is_remark: bool
    """Quantiles: LeRobot averages those of the episodes, so they differ in sound datasets too."""


def read_stated(root: Path, *, features: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """Return the stated statistics by feature and name, [D] each; nothing where there are none.

    v2.1 states them per episode; the dataset's follow from them, without quantiles. Damaged files raise `DataError`.
    """
    whole, path = root / layout.STATS_PATH, root / EPISODES_STATS_PATH
    if whole.exists():
        plain = read_json(whole, where=f"dataset {root}")
        try:
            return {feature: _arrays(plain[feature]) for feature in features if feature in plain}
        except (ValueError, TypeError, AttributeError) as error:
            raise damaged(whole, error, where=f"dataset {root}", fix=FIX_FETCHED) from error
    if not path.exists():
        return {}
    try:
        episodes = [json.loads(line)["stats"] for line in path.read_text(encoding="utf-8").splitlines()]
        return {name: _combined([_arrays(each[name]) for each in episodes]) for name in features if name in episodes[0]}
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise damaged(path, error, where=f"dataset {root}", fix=FIX_FETCHED) from error


def contradictions(
    feature: str, *, stated: Mapping[str, np.ndarray], found: DimStatistics, names: Sequence[str]
) -> list[Contradiction]:
    """Compare the stated statistics of a feature with its data; another number of dimensions contradicts as a whole."""
    truth = {"min": found.minimum, "max": found.maximum, "mean": found.mean, "std": found.std}
    truth |= {name: getattr(found, name) for name in QUANTILES}
    differing = []
    for statistic in (name for name in truth if name in stated):
        numbers = stated[statistic]
        if numbers.shape != (found.dim,):
            return [_contradiction(feature, "", "dimensions", len(numbers), found.dim)]
        for dim, (said, true) in enumerate(zip(numbers, truth[statistic], strict=True)):
            if _differs(statistic, said, true, found=found, dim=dim):
                differing.append(_contradiction(feature, dimension_name(feature, dim, names), statistic, said, true))
    return differing


def _contradiction(feature: str, dimension: str, statistic: str, said: float, true: float) -> Contradiction:
    return Contradiction(
        feature=feature,
        dimension=dimension,
        statistic=statistic,
        stated=float(said),
        found=float(true),
        is_remark=statistic in QUANTILES,
    )


def _differs(statistic: str, said: float, true: float, *, found: DimStatistics, dim: int) -> bool:
    """Return whether a stated number is beyond what it may be; a wider range than the data's is no contradiction."""
    slack = ROUNDING * max(abs(found.minimum[dim]), abs(found.maximum[dim]), 1e-3)
    if not np.isfinite(said):
        return True
    if statistic == "min":
        return bool(said > true + slack)
    if statistic == "max":
        return bool(said < true - slack)
    spread = found.std[dim] if statistic in ("mean", "std") else found.maximum[dim] - found.minimum[dim]
    return bool(abs(said - true) > TOLERANCE * spread + slack)


def _arrays(plain: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.array(value, np.float64).reshape(-1) for name, value in plain.items()}


def _combined(episodes: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return minimum, maximum, mean and std of all rows from those of the episodes."""
    count, mean, std = (np.stack([each[name] for each in episodes]) for name in ("count", "mean", "std"))
    total = (count * mean).sum(axis=0) / count.sum(axis=0)
    variance = (count * (std**2 + (mean - total) ** 2)).sum(axis=0) / count.sum(axis=0)
    return {
        "min": np.min([each["min"] for each in episodes], axis=0),
        "max": np.max([each["max"] for each in episodes], axis=0),
        "mean": total,
        "std": np.sqrt(variance),
    }
