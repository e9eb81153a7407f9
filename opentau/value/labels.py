"""Label rules: from advantages to the indicator of every frame, and the controls that show what the labels are worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from opentau.errors import OptionError, near_matches
from opentau.types import Indicator, derive_seed
from opentau.value.options import TAKEOVER_FAIL, LabelOptions
from opentau.value.table import ValueTable

# Shapes: F frames, E episodes.


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelling:
    """The indicators of all frames and how they came about."""

    indicator: np.ndarray
    """`Indicator` per frame, int8 [F]; never ABSENT, dropping it is the objective's work."""
    thresholds: dict[str, float] = field(default_factory=dict)
    """Task to the advantage above which an autonomous frame is positive."""
    positive_shares: dict[str, float] = field(default_factory=dict)
    """Task to the share of its newest autonomous frames that are positive."""
    notes: tuple[str, ...] = ()
    """Sentences about tasks that took another rule than usual."""


class LabelRule(Protocol):
    """A plug-in that labels frames."""

    def __call__(
        self, frames: ValueTable, *, advantages: np.ndarray, is_newest: np.ndarray, options: LabelOptions, seed: int
    ) -> Labelling:
        """Label all frames from advantages float32 [F]; `is_newest` bool [E] marks the rollouts of this iteration."""
        ...


def recap_labels(
    frames: ValueTable, *, advantages: np.ndarray, is_newest: np.ndarray, options: LabelOptions, seed: int
) -> Labelling:
    """Label by a threshold per task on the advantage; demonstrations and interventions are positive.

    The threshold makes a given share of the task's newest autonomous frames positive (of all, where none is newest) and
    holds for older ones as well. Where the policy failed in all of the newest episodes none of their frames is positive;
    where it succeeded in nearly all, the share is small. An attempt that the expert took over counts as failed.
    """
    episode, tasks = frames.table.episode, frames.tasks
    _, is_success = frames.attempts(takeover=TAKEOVER_FAIL)
    indicator = np.where(frames.is_autonomous, Indicator.NEGATIVE, Indicator.POSITIVE).astype(np.int8)
    thresholds, shares, notes = {}, {}, []
    for task in frames.table.task_ids:
        of_task = (tasks == task)[episode] & frames.is_autonomous
        if not of_task.any():
            continue
        newest = of_task & is_newest[episode]
        newest = newest if newest.any() else of_task
        outcomes = is_success[np.unique(episode[newest])]
        thresholds[task], note = _threshold(advantages[newest], outcomes=outcomes, task=task, options=options)
        notes += [note] if note else []
        indicator[of_task & (advantages > thresholds[task])] = Indicator.POSITIVE
        shares[task] = float(np.mean(indicator[newest] == Indicator.POSITIVE))
    return Labelling(indicator=indicator, thresholds=thresholds, positive_shares=shares, notes=tuple(notes))


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


def random_labels(
    frames: ValueTable, *, advantages: np.ndarray, is_newest: np.ndarray, options: LabelOptions, seed: int
) -> Labelling:
    """Give every autonomous episode RECAP's indicators of another of its task: same share, same runs, no meaning.

    Sequences are aligned at their starts; what a longer one has left over fills up the ends of longer episodes.
    """
    recap = recap_labels(frames, advantages=advantages, is_newest=is_newest, options=options, seed=seed)
    indicator = recap.indicator.copy()
    rows = [record.start + np.flatnonzero(frames.is_autonomous[frames.rows(record)]) for record in frames.episodes]
    for task in frames.table.task_ids:
        members = [position for position, name in enumerate(frames.tasks) if name == task and len(rows[position])]
        rng = np.random.default_rng(derive_seed(seed, "random_labels", task))
        order = [members[i] for i in rng.permutation(len(members))]
        donors = order[1:] + order[:1]
        left_over: list[np.ndarray] = []
        for receiver, donor in zip(order, donors, strict=True):
            common = min(len(rows[receiver]), len(rows[donor]))
            indicator[rows[receiver][:common]] = recap.indicator[rows[donor][:common]]
            left_over.append(recap.indicator[rows[donor][common:]])
        ends = [rows[receiver][len(rows[donor]) :] for receiver, donor in zip(order, donors, strict=True)]
        if ends:
            indicator[np.concatenate(ends)] = np.concatenate(left_over)
    return Labelling(indicator=indicator, thresholds=recap.thresholds, positive_shares=recap.positive_shares, notes=recap.notes)


def source_labels(
    frames: ValueTable, *, advantages: np.ndarray, is_newest: np.ndarray, options: LabelOptions, seed: int
) -> Labelling:
    """Label by source alone: demonstrations and interventions positive, everything autonomous negative."""
    return Labelling(indicator=np.where(frames.is_autonomous, Indicator.NEGATIVE, Indicator.POSITIVE).astype(np.int8))


LABEL_RULES: dict[str, Callable[..., Labelling]] = {
    "recap": recap_labels,
    "random_labels": random_labels,
    "source_labels": source_labels,
}


def label_rule(name: str) -> LabelRule:
    """Return the rule of a name; an unknown one raises `OptionError`."""
    if name not in LABEL_RULES:
        raise OptionError(f"unknown label rule {name!r}.{near_matches(name, LABEL_RULES)}")
    return LABEL_RULES[name]
