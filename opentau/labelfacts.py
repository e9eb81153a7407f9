"""What the labels of an iteration look like in a few numbers, for events, screen and report: advantages and calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
import numpy as np

from opentau.types import Indicator, Source

# Shapes: F frames.

NUM_HISTOGRAM_BINS = 32
NUM_CALIBRATION_BINS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFacts:
    """The labels of one iteration."""

    iteration: int
    edges: tuple[float, ...]
    """Of the histogram's bins, one more than there are bins; the outer ones hold what lies beyond, too."""
    counts: Mapping[str, tuple[int, ...]]
    """Source, in lower case, to frames per bin of their advantage."""
    thresholds: Mapping[str, float]
    """Task id to the advantage above which an autonomous frame is positive."""
    positive: Mapping[str, float]
    """Source to the share of its frames that is labelled positive."""
    calibration: tuple[tuple[float, float, int], ...]
    """(mean predicted value, mean return, frames) of each tenth of the autonomous frames, by their value."""

    def to_event(self) -> dict[str, Any]:
        """Return the fields of an `events.LABELLED`."""
        return asdict(self)

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> LabelFacts:
        """Read them back; raises `ValueError` for what is none."""
        return msgspec.convert(event, cls, strict=False)


def label_facts(
    *,
    iteration: int,
    source: np.ndarray,
    advantages: np.ndarray,
    indicator: np.ndarray,
    values: np.ndarray,
    returns: np.ndarray,
    thresholds: Mapping[str, float],
) -> LabelFacts:
    """Sum up labels, columns [F]: `source` and `indicator` as in `opentau.types`, `values` out of fold, `returns` realised."""
    rows = {kind: source == kind for kind in Source if (source == kind).any()}
    edges, counts = histogram({kind.name.lower(): advantages[is_kind] for kind, is_kind in rows.items()})
    is_autonomous = source == Source.AUTONOMOUS
    return LabelFacts(
        iteration=iteration,
        edges=tuple(edges.tolist()),
        counts={name: tuple(column.tolist()) for name, column in counts.items()},
        thresholds=dict(thresholds),
        positive={
            kind.name.lower(): float(np.mean(indicator[is_kind] == Indicator.POSITIVE)) for kind, is_kind in rows.items()
        },
        calibration=calibration_bins(values[is_autonomous], returns[is_autonomous]),
    )


def histogram(columns: Mapping[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return common bin edges [B + 1] of some columns, none of them empty, and the count per bin of each."""
    low, high = np.quantile(np.concatenate(list(columns.values())), [0.002, 0.998])
    edges = np.linspace(low, max(high, low + 1e-6), NUM_HISTOGRAM_BINS + 1)
    clipped = {name: np.clip(column, edges[0], edges[-1]) for name, column in columns.items()}
    return edges, {name: np.histogram(column, edges)[0] for name, column in clipped.items()}


def calibration_bins(predicted: np.ndarray, realised: np.ndarray) -> tuple[tuple[float, float, int], ...]:
    """Return (mean predicted, mean realised, frames) of each tenth of the frames [F] by what was predicted."""
    order = np.argsort(predicted, kind="stable")
    tenths = [part for part in np.array_split(order, NUM_CALIBRATION_BINS) if len(part)]
    return tuple((float(predicted[part].mean()), float(realised[part].mean()), len(part)) for part in tenths)
