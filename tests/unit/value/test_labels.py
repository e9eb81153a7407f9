"""Label rules: shares, sources, degenerate rounds and controls."""

from __future__ import annotations

from functools import partial
from itertools import groupby

import numpy as np
import pytest

from opentau.errors import OptionError
from opentau.types import Indicator, Source
from opentau.value.controls import (
    advantage_weights,
    demonstrations_only,
    no_labels,
    random_labels,
    source_labels,
    successes_only,
)
from opentau.value.labels import demonstration_labels, recap_labels
from opentau.value.options import LabelOptions

OPTIONS = LabelOptions()


def mixed_table(make_table, sketch, *, successes: int = 6, failures: int = 6, task_id: str = "box/0"):
    """Two demonstrations, autonomous episodes of many lengths, and one that was rescued."""
    sketches = [sketch(length=30, is_success=True, source=Source.DEMONSTRATION, task_id=task_id)] * 2
    sketches += [sketch(length=30 + 3 * i, is_success=True, task_id=task_id) for i in range(successes)]
    sketches += [sketch(length=90 + i, is_success=False, task_id=task_id) for i in range(failures)]
    sketches += [sketch(length=60, is_success=True, interventions=((20, 35),), task_id=task_id)]
    return make_table(sketches)


def draw_advantages(frames, *, seed: int = 0) -> np.ndarray:
    """Correlated along an episode, as real ones are."""
    noise = np.random.default_rng(seed).normal(size=len(frames.table) + 9)
    return np.convolve(noise, np.ones(10) / 10, mode="valid").astype(np.float32)


def label(rule, frames, *, advantages=None, is_newest=None, seed: int = 0, options: LabelOptions = OPTIONS):
    advantages = draw_advantages(frames) if advantages is None else advantages
    is_newest = ~frames.is_demonstration if is_newest is None else is_newest
    return rule(frames, advantages=advantages, is_newest=is_newest, options=options, seed=seed)


def share(labelling, mask: np.ndarray) -> float:
    return float(np.mean(labelling.indicator[mask] == Indicator.POSITIVE))


def test_forty_percent_of_the_newest_autonomous_frames_are_positive_and_they_are_the_best(make_table, sketch) -> None:
    frames = mixed_table(make_table, sketch)
    advantages = draw_advantages(frames)
    labelling = label(recap_labels, frames, advantages=advantages)
    autonomous = frames.is_autonomous
    assert share(labelling, autonomous) == pytest.approx(0.4, abs=0.005)
    positive = labelling.indicator == Indicator.POSITIVE
    assert advantages[autonomous & positive].min() > advantages[autonomous & ~positive].max()
    assert labelling.positive_shares == {"box/0": pytest.approx(0.4, abs=0.005)}
    assert labelling.notes == ()


@pytest.mark.parametrize("rule", [recap_labels, random_labels, source_labels])
def test_demonstrations_and_interventions_are_positive_under_every_rule(make_table, sketch, rule) -> None:
    frames = mixed_table(make_table, sketch)
    labelling = label(rule, frames, advantages=np.full(len(frames.table), -1, np.float32))
    assert share(labelling, ~frames.is_autonomous) == 1
    assert set(labelling.indicator) <= {Indicator.NEGATIVE, Indicator.POSITIVE}


def test_the_threshold_comes_from_the_newest_rollouts_and_holds_for_older_ones(make_table, sketch) -> None:
    frames = make_table([sketch(length=50, is_success=i % 2 == 0) for i in range(20)])
    is_newest = np.arange(20) >= 10
    advantages = draw_advantages(frames)
    newest = is_newest[frames.table.episode]
    advantages[~newest] -= 10  # the old policy was worse everywhere
    labelling = label(recap_labels, frames, advantages=advantages, is_newest=is_newest)
    assert share(labelling, newest) == pytest.approx(0.4, abs=0.005)
    assert share(labelling, ~newest) == 0


def test_thresholds_are_per_task(make_table, sketch) -> None:
    sketches = [sketch(length=50, is_success=i % 2 == 0, task_id=f"box/{i // 10}") for i in range(20)]
    frames = make_table(sketches)
    advantages = draw_advantages(frames)
    second = frames.table.task == 1
    advantages[second] += 5
    labelling = label(recap_labels, frames, advantages=advantages)
    assert share(labelling, second) == pytest.approx(0.4, abs=0.005)
    assert share(labelling, ~second) == pytest.approx(0.4, abs=0.005)
    assert labelling.thresholds["box/1"] > labelling.thresholds["box/0"] + 4


def test_where_all_failed_nothing_autonomous_is_positive_and_the_note_asks_for_demonstrations(make_table, sketch) -> None:
    demonstration = sketch(length=30, is_success=True, source=Source.DEMONSTRATION)
    rescued = sketch(length=60, is_success=True, interventions=((20, 60),))
    frames = make_table([demonstration, *[sketch(length=100, is_success=False)] * 8, rescued])
    labelling = label(recap_labels, frames)
    assert share(labelling, frames.is_autonomous) == 0
    assert share(labelling, ~frames.is_autonomous) == 1
    assert "all 9 newest episodes failed" in labelling.notes[0]
    assert "more demonstrations" in labelling.notes[0]


@pytest.mark.parametrize(("failures", "wanted"), [(0, 0.1), (1, 0.1), (4, 0.4)])
def test_where_nearly_all_succeeded_a_tenth_is_positive(make_table, sketch, failures: int, wanted: float) -> None:
    successes = 20 - failures
    frames = make_table([sketch(length=50, is_success=True)] * successes + [sketch(length=100, is_success=False)] * failures)
    labelling = label(recap_labels, frames)
    assert share(labelling, frames.is_autonomous) == pytest.approx(wanted, abs=0.005)
    assert len(labelling.notes) == (1 if wanted == 0.1 else 0)


def runs(indicator: np.ndarray) -> list[int]:
    return sorted(len(list(group)) for _, group in groupby(indicator))


def test_random_labels_keep_the_share_exactly_and_each_episode_gets_those_of_another(make_table, sketch) -> None:
    frames = mixed_table(make_table, sketch)
    recap, permuted = label(recap_labels, frames), label(random_labels, frames)
    autonomous = frames.is_autonomous
    assert np.count_nonzero(permuted.indicator[autonomous]) == np.count_nonzero(recap.indicator[autonomous])
    own = [np.flatnonzero(autonomous[frames.rows(record)]) + record.start for record in frames.episodes]
    own = [rows for rows in own if len(rows)]
    for rows in own:
        lengths = [min(len(rows), len(other)) for other in own]
        donors = [
            np.array_equal(permuted.indicator[rows[:n]], recap.indicator[other[:n]]) and other is not rows
            for n, other in zip(lengths, own, strict=True)
        ]
        assert any(donors)


def test_random_labels_keep_the_lengths_of_runs(make_table, sketch) -> None:
    frames = make_table([sketch(length=60, is_success=i % 2 == 0) for i in range(12)])
    recap, permuted = label(recap_labels, frames), label(random_labels, frames)
    by_episode = [[runs(labels.indicator[frames.rows(record)]) for record in frames.episodes] for labels in (recap, permuted)]
    assert sorted(by_episode[0]) == sorted(by_episode[1])
    assert by_episode[0] != by_episode[1]


def test_random_labels_follow_the_seed_and_stay_within_tasks(make_table, sketch) -> None:
    sketches = [sketch(length=50, is_success=i % 2 == 0, task_id=f"box/{i // 10}") for i in range(20)]
    frames = make_table(sketches)
    one, other = label(random_labels, frames, seed=0), label(random_labels, frames, seed=1)
    assert not np.array_equal(one.indicator, other.indicator)
    for task in (0, 1):
        mask = frames.table.task == task
        assert share(one, mask) == share(label(recap_labels, frames), mask)


def test_random_labels_carry_nothing_about_the_advantage(make_table, sketch) -> None:
    frames = make_table([sketch(length=60, is_success=i % 2 == 0) for i in range(100)])
    advantages = draw_advantages(frames)
    recap, permuted = label(recap_labels, frames), label(random_labels, frames)
    assert np.corrcoef(advantages, recap.indicator)[0, 1] > 0.7
    assert abs(np.corrcoef(advantages, permuted.indicator)[0, 1]) < 0.15


def test_source_labels_call_everything_autonomous_negative(make_table, sketch) -> None:
    frames = mixed_table(make_table, sketch)
    labelling = label(source_labels, frames)
    assert np.array_equal(labelling.indicator == Indicator.POSITIVE, ~frames.is_autonomous)


def test_a_task_with_one_autonomous_episode_keeps_its_labels(make_table, sketch) -> None:
    frames = make_table([sketch(length=50, is_success=False)])
    assert label(random_labels, frames).indicator.shape == (50,)


@pytest.mark.parametrize("rule", [no_labels, successes_only, advantage_weights])
def test_rules_without_an_indicator_give_none(make_table, sketch, rule) -> None:
    labelling = label(rule, mixed_table(make_table, sketch))
    assert set(labelling.indicator) == {Indicator.ABSENT}


def test_learning_from_demonstrations_only_leaves_every_other_frame_out(make_table, sketch) -> None:
    frames = mixed_table(make_table, sketch)
    labelling = label(demonstrations_only, frames)
    assert np.array_equal(labelling.weight > 0, frames.table.source == Source.DEMONSTRATION)
    assert set(labelling.indicator) == {Indicator.POSITIVE}


def test_filtered_cloning_keeps_successes_corrections_and_what_followed_them_but_not_what_led_to_a_takeover(
    make_table, sketch
) -> None:
    rescued = sketch(length=60, is_success=True, interventions=((20, 35),))
    frames = make_table([sketch(length=40, is_success=True), sketch(length=50, is_success=False), rescued])
    weight = label(successes_only, frames).weight
    assert weight[:40].all()
    assert not weight[40:90].any()
    assert not weight[90:110].any()
    assert weight[110:].all()


def test_advantage_weights_rise_with_the_advantage_up_to_their_limit_and_keep_a_mean_of_one(make_table, sketch) -> None:
    frames = mixed_table(make_table, sketch)
    advantages, autonomous = draw_advantages(frames), frames.is_autonomous
    weight = label(advantage_weights, frames, advantages=advantages).weight
    assert np.all(np.diff(weight[autonomous][np.argsort(advantages[autonomous])]) >= 0)
    assert weight[autonomous].mean() == pytest.approx(1)
    cut = label(partial(advantage_weights, temperature=0.01, max_weight=1.5), frames, advantages=advantages).weight
    assert np.mean(cut[autonomous] == cut.max()) == pytest.approx(np.mean(advantages[autonomous] > 0), abs=0.05)
    assert np.all(weight[~autonomous] == 1)


def test_a_least_threshold_keeps_frames_below_it_from_being_positive(make_table, sketch) -> None:
    frames = mixed_table(make_table, sketch)
    advantages = draw_advantages(frames) - 0.5
    options = LabelOptions(positive_share=0.9, min_threshold=0.0)
    autonomous, is_newest = frames.is_autonomous, ~frames.is_demonstration
    labelling = recap_labels(frames, advantages=advantages, is_newest=is_newest, options=options, seed=0)
    assert np.array_equal(labelling.indicator[autonomous] == Indicator.POSITIVE, advantages[autonomous] > 0)
    assert labelling.thresholds == {"box/0": 0.0}


def test_negatives_can_be_left_without_an_indicator(make_table, sketch) -> None:
    frames = mixed_table(make_table, sketch)
    usual, positive_only = label(recap_labels, frames), label(partial(recap_labels, negatives="absent"), frames)
    assert np.array_equal(usual.indicator == Indicator.POSITIVE, positive_only.indicator == Indicator.POSITIVE)
    assert set(positive_only.indicator) == {Indicator.ABSENT, Indicator.POSITIVE}


@pytest.mark.parametrize("args", [{"negatives": "drop"}, {"temperature": 0.0}])
def test_wrong_arguments_of_a_rule_are_refused(make_table, sketch, args) -> None:
    rule = recap_labels if "negatives" in args else advantage_weights
    with pytest.raises(OptionError, match=r"improve\.args"):
        label(partial(rule, **args), mixed_table(make_table, sketch))


def test_of_demonstrations_a_share_per_task_is_positive_and_it_is_the_best(make_table, sketch) -> None:
    sketches = [
        sketch(length=50, is_success=True, source=Source.DEMONSTRATION, task_id=f"box/{number // 6}") for number in range(12)
    ]
    failed = sketch(length=100, is_success=False, source=Source.DEMONSTRATION)
    corrected = sketch(length=40, is_success=True, interventions=((10, 40),))
    frames = make_table([*sketches, failed, corrected])
    advantages = draw_advantages(frames)
    advantages[frames.table.task == 1] += 5
    advantages[frames.table.episode == 12] -= 50
    options = LabelOptions(demonstration_share=0.3)
    labelling = label(demonstration_labels, frames, advantages=advantages, options=options)
    for task in (0, 1):
        shown = (frames.table.task == task) & (frames.table.episode < 12)
        assert share(labelling, shown) == pytest.approx(0.3, abs=0.005)
        is_positive = labelling.indicator[shown] == Indicator.POSITIVE
        assert advantages[shown][is_positive].min() > advantages[shown][~is_positive].max()
    assert share(labelling, frames.table.episode == 12) == 0
    assert share(labelling, frames.table.source == Source.INTERVENTION) == 1
