"""The label rule of RECAP, and what every label rule gives: the indicator and the weight of every frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from opentau.errors import OptionError
from opentau.types import Indicator, Source
from opentau.value.options import TAKEOVER_FAIL, LabelOptions
from opentau.value.table import ValueTable

# Shapes: F frames, E episodes.

NEGATIVES = {"keep": Indicator.NEGATIVE, "absent": Indicator.ABSENT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelling:
    """The indicators and weights of all frames and how they came about."""

    indicator: np.ndarray
    """`Indicator` per frame, int8 [F]; what the objective withholds at random (dropout) is not part of it."""
    weight: np.ndarray
    """Weight of each frame's loss, float32 [F]; frames of weight 0 are not learned from."""
    thresholds: dict[str, float] = field(default_factory=dict)
    """Task to the advantage above which an autonomous frame is positive."""
    positive_shares: dict[str, float] = field(default_factory=dict)
    """Task to the share of its newest autonomous frames that are positive."""
    notes: tuple[str, ...] = ()
    """Sentences about tasks that took another rule than usual."""


class LabelRule(Protocol):
    """A plug-in that labels frames: what improvers differ in."""

    def __call__(
        self, frames: ValueTable, *, advantages: np.ndarray, is_newest: np.ndarray, options: LabelOptions, seed: int
    ) -> Labelling:
        """Label all frames from advantages float32 [F]; `is_newest` bool [E] marks the rollouts of this iteration."""
        ...


def recap_labels(
    frames: ValueTable,
    *,
    advantages: np.ndarray,
    is_newest: np.ndarray,
    options: LabelOptions,
    seed: int,
    negatives: str = "keep",
) -> Labelling:
    """Label by a threshold per task on the advantage; demonstrations and interventions are positive.

    The threshold makes a given share of the task's newest autonomous frames positive (of all, where none is newest) and
    holds for older ones as well. Where the policy failed in all of the newest episodes none of their frames is positive;
    where it succeeded in nearly all, the share is small. An attempt that the expert took over counts as failed. What is not
    positive is negative, or with `negatives='absent'` has no indicator at all.
    """
    if negatives not in NEGATIVES:
        raise OptionError(f"improve.args.negatives is {negatives!r}; use 'keep' or 'absent'")
    episode, tasks = frames.table.episode, frames.tasks
    _, is_success = frames.attempts(takeover=TAKEOVER_FAIL)
    indicator = np.where(frames.is_autonomous, NEGATIVES[negatives], Indicator.POSITIVE).astype(np.int8)
    thresholds, shares, notes = {}, {}, []
    for task in frames.table.task_ids:
        of_task = (tasks == task)[episode] & frames.is_autonomous
        if not of_task.any():
            continue
        newest = of_task & is_newest[episode]
        newest = newest if newest.any() else of_task
        outcomes = is_success[np.unique(episode[newest])]
        threshold, note = _threshold(advantages[newest], outcomes=outcomes, task=task, options=options)
        thresholds[task] = threshold if options.min_threshold is None else max(threshold, options.min_threshold)
        notes += [note] if note else []
        indicator[of_task & (advantages > thresholds[task])] = Indicator.POSITIVE
        shares[task] = float(np.mean(indicator[newest] == Indicator.POSITIVE))
    return Labelling(
        indicator=indicator, weight=even_weights(frames), thresholds=thresholds, positive_shares=shares, notes=tuple(notes)
    )


def demonstration_labels(
    frames: ValueTable, *, advantages: np.ndarray, is_newest: np.ndarray, options: LabelOptions, seed: int
) -> Labelling:
    """Label demonstrations by a threshold per task on the advantage, to pre-train a policy with its indicator (appendix F).

    A given share of the frames of a task's successful demonstrations is positive; all others (of failures, of a policy) are
    measured by the same threshold, but for interventions, which are positive.
    """
    assert options.demonstration_share is not None
    episode, tasks = frames.table.episode, frames.tasks
    is_demonstration = frames.table.source == Source.DEMONSTRATION
    indicator = np.full(len(advantages), Indicator.POSITIVE, np.int8)
    thresholds, shares = {}, {}
    for task in frames.table.task_ids:
        of_task = (tasks == task)[episode] & (frames.table.source != Source.INTERVENTION)
        measured = of_task & is_demonstration & frames.is_success[episode]
        if not measured.any():
            measured = of_task
        if not measured.any():
            continue
        thresholds[task] = float(np.quantile(advantages[measured], 1 - options.demonstration_share))
        indicator[of_task] = np.where(advantages[of_task] > thresholds[task], Indicator.POSITIVE, Indicator.NEGATIVE)
        shares[task] = float(np.mean(indicator[measured] == Indicator.POSITIVE))
    return Labelling(indicator=indicator, weight=even_weights(frames), thresholds=thresholds, positive_shares=shares)


def _threshold(newest: np.ndarray, *, outcomes: np.ndarray, task: str, options: LabelOptions) -> tuple[float, str]:
    """Return the threshold on the newest autonomous advantages, and a sentence where the usual share does not apply."""
    if not outcomes.any():
        return float(newest.max()), (
            f"task {task}: all {len(outcomes)} newest episodes failed, so no frame of theirs is labelled positive; this update "
            "learns from demonstrations and interventions. If that goes on, record more demonstrations (data.demonstrations)."
        )
    if outcomes.mean() < options.high_success:
        return float(np.quantile(newest, 1 - options.positive_share)), ""
    share = options.fast_positive_share
    return float(np.quantile(newest, 1 - share)), (
        f"task {task}: {int(outcomes.sum())} of {len(outcomes)} newest episodes succeeded; only the best {share:.0%} of "
        "their frames are labelled positive, to learn speed."
    )


def even_weights(frames: ValueTable) -> np.ndarray:
    """Return weight 1 for every frame, float32 [F]."""
    return np.ones(len(frames.table), np.float32)
