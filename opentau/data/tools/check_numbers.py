"""Checks of states and actions over all episodes: dimensions that never move, statistics that contradict, odd lengths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from opentau.data.statistics import StreamingStatistics
from opentau.data.tools.findings import Finding, Severity, dimension_name, named_episodes
from opentau.data.tools.stated import Contradiction, contradictions

# Shapes: T frames, D dimensions, E episodes.

STILL_SHARE = 1e-6
"""Of a dimension's range over the dataset: below it a sensor repeats itself, which noise never does."""
ALIVE_SHARE = 0.9
"""A dimension that moves in this share of the episodes is one that should move; a rarely used joint may rest."""
MIN_ALIVE_EPISODES = 5
"""Fewer episodes say nothing about what is usual."""
MIN_STILL_S = 1.0
"""Shorter episodes may well leave a dimension at rest."""
SHORT_SHARE = 0.1
"""Of the median length: an episode that short was most likely broken off."""
MIN_FRAMES = 2
"""One frame shows no motion."""


class Dimensions:
    """Finds dimensions of one feature that never move, and those that rest in a few episodes but move in the others."""

    def __init__(self, feature: str, names: Sequence[str], *, fps: float) -> None:
        self._feature = feature
        self._names = names
        self._min_frames = MIN_STILL_S * fps
        self._indices: list[int] = []
        self._lengths: list[int] = []
        self._low: list[np.ndarray] = []
        self._high: list[np.ndarray] = []

    def add(self, index: int, rows_TD: np.ndarray) -> None:
        """Take in the finite rows of one episode."""
        self._indices.append(index)
        self._lengths.append(len(rows_TD))
        self._low.append(rows_TD.min(axis=0))
        self._high.append(rows_TD.max(axis=0))

    def findings(self) -> Iterator[Finding]:
        if not self._indices:
            return
        low_ED, high_ED = np.stack(self._low).astype(np.float64), np.stack(self._high).astype(np.float64)
        range_D = high_ED.max(axis=0) - low_ED.min(axis=0)
        is_still_ED = high_ED - low_ED <= STILL_SHARE * range_D
        is_long_E = np.array(self._lengths) >= self._min_frames
        for dim, spread in enumerate(range_D):
            where = dimension_name(self._feature, dim, self._names)
            if spread == 0:
                yield self._dead(where, value=low_ED[0, dim])
                continue
            odd = np.flatnonzero(is_still_ED[:, dim] & is_long_E)
            is_usual = is_still_ED[is_long_E, dim].mean() <= 1 - ALIVE_SHARE if is_long_E.any() else False
            if len(odd) and is_usual and is_long_E.sum() >= MIN_ALIVE_EPISODES:
                yield self._resting(where, odd, value=low_ED[odd[0], dim])

    def _dead(self, where: str, *, value: float) -> Finding:
        return Finding(
            severity=Severity.WARNING,
            code="dead-dimension",
            text=f"{where} is {value:g} in all {sum(self._lengths)} frames",
            fix="Leave it out of training, or look at the sensor or controller behind it.",
            dimension=where,
        )

    def _resting(self, where: str, odd: np.ndarray, *, value: float) -> Finding:
        episodes = tuple(self._indices[position] for position in odd)
        return Finding(
            severity=Severity.WARNING,
            code="still-dimension",
            text=f"{where} stays at {value:g} in {named_episodes(episodes)}; it moves in the others",
            fix="Look at these episodes with `opentau data view`, and leave out those where it should have moved.",
            episodes=episodes,
            dimension=where,
        )


def statistics_findings(
    feature: str,
    stream: StreamingStatistics,
    *,
    stated: Mapping[str, np.ndarray],
    names: Sequence[str],
    path: str,
) -> Iterator[Finding]:
    """Yield one finding per dimension whose stated statistics contradict the data; averaged quantiles are none."""
    first: dict[str, Contradiction] = {}
    for each in contradictions(feature, stated=stated, found=stream.finish(), names=names):
        if not each.is_remark:
            first.setdefault(each.dimension, each)
    for each in first.values():
        yield Finding(
            severity=Severity.ERROR,
            code="statistics",
            text=f"{path} says {each.statistic} {each.stated:g} of {each.dimension or feature}, the data has {each.found:g}",
            fix="Export the dataset with `opentau data export`, which computes them anew.",
            path=path,
            dimension=each.dimension,
        )


def length_findings(lengths: Mapping[int, int]) -> Iterator[Finding]:
    """Yield episodes that are empty or much shorter than the others; `lengths` has frames by episode."""
    median = float(np.median(list(lengths.values())))
    for index, length in lengths.items():
        if not length:
            yield _length_finding(Severity.ERROR, "empty-episode", f"episode {index} has no frames", index)
        elif length < max(MIN_FRAMES, SHORT_SHARE * median):
            text = f"episode {index} has {length} frames, half of the episodes have {median:g} or more"
            yield _length_finding(Severity.WARNING, "short-episode", text, index)


def _length_finding(severity: Severity, code: str, text: str, index: int) -> Finding:
    fix = f"Leave it out: `opentau data export --exclude {index}`."
    return Finding(severity=severity, code=code, text=text, fix=fix, episodes=(index,))
