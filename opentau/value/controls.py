"""Label rules that RECAP is compared with: same episodes, same updates, other or no use of the advantages."""

from __future__ import annotations

import dataclasses

import numpy as np

from opentau.errors import OptionError
from opentau.types import Indicator, Source, derive_seed
from opentau.value.labels import Labelling, even_weights, recap_labels
from opentau.value.options import LabelOptions
from opentau.value.table import ValueTable

# Shapes: F frames, E episodes.


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
    return dataclasses.replace(recap, indicator=indicator)


def source_labels(
    frames: ValueTable, *, advantages: np.ndarray, is_newest: np.ndarray, options: LabelOptions, seed: int
) -> Labelling:
    """Label by source alone: demonstrations and interventions positive, everything autonomous negative."""
    indicator = np.where(frames.is_autonomous, Indicator.NEGATIVE, Indicator.POSITIVE).astype(np.int8)
    return Labelling(indicator=indicator, weight=even_weights(frames))


def no_labels(
    frames: ValueTable, *, advantages: np.ndarray, is_newest: np.ndarray, options: LabelOptions, seed: int
) -> Labelling:
    """Learn from everything alike, without an indicator: supervised fine-tuning on all that was recorded (re-SFT)."""
    return Labelling(indicator=_constant(frames, Indicator.ABSENT), weight=even_weights(frames))


def demonstrations_only(
    frames: ValueTable, *, advantages: np.ndarray, is_newest: np.ndarray, options: LabelOptions, seed: int
) -> Labelling:
    """Learn from demonstrations alone, indicator positive as in iteration 0: what more updates give by themselves."""
    is_demonstration = frames.table.source == Source.DEMONSTRATION
    return Labelling(indicator=_constant(frames, Indicator.POSITIVE), weight=is_demonstration.astype(np.float32))


def successes_only(
    frames: ValueTable, *, advantages: np.ndarray, is_newest: np.ndarray, options: LabelOptions, seed: int
) -> Labelling:
    """Learn from what succeeded, without an indicator (filtered behaviour cloning).

    That is every demonstration and intervention, and the autonomous frames of successful episodes but for stretches that
    ended in a takeover.
    """
    is_good = ~frames.is_autonomous | frames.led_to_success()
    return Labelling(indicator=_constant(frames, Indicator.ABSENT), weight=is_good.astype(np.float32))


def advantage_weights(
    frames: ValueTable,
    *,
    advantages: np.ndarray,
    is_newest: np.ndarray,
    options: LabelOptions,
    seed: int,
    temperature: float = 1.0,
    max_weight: float = 5.0,
) -> Labelling:
    """Weigh autonomous frames by exp(A / temperature), without an indicator (AWR, Peng et al. 2019, arXiv:1910.00177).

    Advantages are measured in standard deviations of their task's autonomous frames; weights are cut at `max_weight`, then
    scaled to a mean of 1 per task, so that the halves of a batch keep their shares. Other frames weigh 1.
    """
    if temperature <= 0 or max_weight <= 1:
        raise OptionError(
            f"improve.args are temperature {temperature} and max_weight {max_weight}; use more than 0 and more than 1"
        )
    weight, tasks = even_weights(frames), frames.tasks
    for task in frames.table.task_ids:
        of_task = (tasks == task)[frames.table.episode] & frames.is_autonomous
        if not of_task.any():
            continue
        standardised = advantages[of_task] / max(float(advantages[of_task].std()), 1e-6)
        raw = np.minimum(np.exp(np.minimum(standardised / temperature, 50.0)), max_weight)
        weight[of_task] = raw / raw.mean()
    return Labelling(indicator=_constant(frames, Indicator.ABSENT), weight=weight)


def _constant(frames: ValueTable, indicator: Indicator) -> np.ndarray:
    return np.full(len(frames.table), indicator, np.int8)
