"""What a report shows, as plain data: the folded events of a run beside what its stages measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from opentau.runstate import RunSummary
from opentau.types import Outcome, Source

# Shapes: T control steps of an episode, Y and X image rows and columns, n frames.


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvantageReport:
    """How the frames of one iteration were labelled."""

    iteration: int
    advantages: Mapping[Source, np.ndarray]
    """Out-of-fold advantages by source, float [n] each; sources without frames may be left out."""
    thresholds: Mapping[str, float]
    """Task id to the advantage above which an autonomous frame is positive."""
    positive_shares: Mapping[Source, float]
    """Share of frames whose indicator is positive, in [0, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticReport:
    """How good the critic of one iteration is on episodes it was not fitted on."""

    iteration: int
    measures: Mapping[str, float]
    """Metric name to number, for example {'value/spearman': 0.81}."""
    predicted: np.ndarray
    """Out-of-fold values of autonomous frames, float [n]."""
    realised: np.ndarray
    """Their returns, float [n]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditioningReport:
    """Whether the policy of one iteration listens to its indicator."""

    iteration: int
    loss_right: float
    """Loss under the indicator that the labels say."""
    loss_flipped: float
    """Loss under the opposite one; no larger than the other means that the indicator is ignored."""

    @property
    def gap(self) -> float:
        return self.loss_flipped - self.loss_right


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """An episode to be shown as a filmstrip."""

    caption: str
    """Whose episode it is, for example 'collect-1, episode 17'."""
    outcome: Outcome
    frames: np.ndarray
    """One camera, uint8 [T, Y, X, 3]; a few of them are shown."""
    source: np.ndarray
    """`Source` per frame, int8 [T]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """Everything a report shows; parts of stages that have not run are left empty, and the page says so."""

    run: RunSummary
    """The folded events: stages, scores, verdicts, curves, tallies, CPU time."""
    advantages: tuple[AdvantageReport, ...] = ()
    critics: tuple[CriticReport, ...] = ()
    conditioning: tuple[ConditioningReport, ...] = ()
    films: tuple[Film, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    """The run's resolved options, nested."""
    eval_specs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Eval-spec id to what it stands for: states, seeds, limits, versions, rendering."""
    machine: Mapping[str, str] = field(default_factory=dict)
    """What it ran on, by name: processor, cores, versions."""
