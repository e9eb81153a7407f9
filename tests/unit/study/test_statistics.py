"""Statistics of paired episodes, against worked examples and by simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from opentau.errors import DataError
from opentau.study.pairing import Pair, pair_scores, pair_variants
from opentau.study.rows import PolicyScore
from opentau.study.statistics import (
    resample_counts,
    sign_flip_p_value,
    steps_to_success,
    student_interval,
    success_difference,
    throughput_ratio,
)
from tests.unit.study.invented_rows import MAX_STEPS, row, score, share


def pair(candidate: PolicyScore, baseline: PolicyScore, *, seed: int = 0) -> Pair:
    return Pair(cell=(0, seed), candidate=candidate, baseline=baseline)


def drawn_pair(rng: np.random.Generator, *, episodes: int, candidate: float, baseline: float, seed: int) -> Pair:
    """Return a cell whose policies solve a placement the more likely the easier it is for both."""
    ease = rng.random(episodes)
    other_ease = np.where(rng.random(episodes) < 0.7, ease, rng.random(episodes))
    return pair(score((ease < candidate).tolist()), score((other_ease < baseline).tolist()), seed=seed)


def test_the_difference_is_the_mean_over_cells_whatever_their_size() -> None:
    small, large = (
        pair(share(4, episodes=4), share(2, episodes=4)),
        pair(share(50, episodes=100), share(60, episodes=100), seed=1),
    )
    result = success_difference([small, large], seed=0)
    assert result.by_cell == pytest.approx((0.5, -0.1))
    assert result.estimate == pytest.approx(0.2)
    assert (result.num_cells, result.num_episodes, result.num_negative) == (2, 104, 1)


def test_the_bootstrap_pairs_episodes() -> None:
    outcomes = [1, 0] * 25
    alike = success_difference([pair(score(outcomes), score(outcomes))], seed=0)
    opposed = success_difference([pair(score(outcomes), score(outcomes[::-1]))], seed=0)
    assert (alike.bootstrap.low, alike.bootstrap.high) == (0.0, 0.0)
    assert opposed.bootstrap.low < -0.2
    assert opposed.bootstrap.high > 0.2


def test_the_bootstrap_keeps_the_cells_fixed() -> None:
    certain = [pair(share(10), share(0)), pair(share(0), share(10), seed=1)]
    result = success_difference(certain, seed=0)
    assert (result.bootstrap.low, result.bootstrap.high) == (0.0, 0.0)
    assert result.student is not None
    assert result.student.low < -1


def test_the_bootstrap_interval_covers_the_true_difference_as_often_as_it_says() -> None:
    rng, repetitions = np.random.default_rng(3), 400
    hits = 0
    for _ in range(repetitions):
        cells = [drawn_pair(rng, episodes=50, candidate=0.6, baseline=0.5, seed=cell) for cell in range(3)]
        interval = success_difference(cells, seed=int(rng.integers(1 << 30)), num_draws=400).bootstrap
        hits += interval.low <= 0.1 <= interval.high
    assert 0.90 <= hits / repetitions <= 0.98


def test_the_t_interval_agrees_with_a_worked_example() -> None:
    interval = student_interval((0.1, 0.2, 0.3, 0.4, 0.5))  # deviation sqrt(0.025), quantile 2.776445 with 4 degrees of freedom
    half = 2.776445 * math.sqrt(0.025) / math.sqrt(5)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((0.3 - half, 0.3 + half), abs=1e-6)


def test_one_cell_has_no_t_interval() -> None:
    assert student_interval((0.2,)) is None
    assert success_difference([pair(share(5), share(3))], seed=0).student is None


def test_the_sign_flip_test_counts_what_a_hand_would() -> None:
    # 1 + 2 + 4 = 7: only all signs equal reach it, 2 of 8. 1 + 2 - 4 = -1: of the sums ±7, ±5, ±3, ±1 all do.
    assert sign_flip_p_value((0.1, 0.2, 0.4), seed=0) == 2 / 8
    assert sign_flip_p_value((0.1, 0.2, -0.4), seed=0) == 1.0
    # Ties by rounding: 0.1 + 0.2 - 0.3 is not quite 0, but no sum is smaller.
    assert sign_flip_p_value((0.1, 0.2, -0.3), seed=0) == 1.0
    assert sign_flip_p_value((0.5,), seed=0) == 1.0


def test_drawn_sign_flips_agree_with_all_of_them() -> None:
    differences = np.random.default_rng(1).normal(0.05, 0.1, 17)
    sums = [abs(float(np.dot(signs, differences))) for signs in itertools.product((1, -1), repeat=17)]
    exact = np.mean([total >= abs(differences.sum()) - 1e-9 for total in sums])
    assert sign_flip_p_value(tuple(differences), seed=0) == pytest.approx(exact, abs=0.006)


def test_throughput_charges_failures_their_full_limit() -> None:
    # Candidate: 2 successes in 40 + 60 + 100 steps. Baseline: 1 success in 100 + 40 + 100, whatever a failure played.
    candidate = score([1, 1, 0], num_steps=[40, 60, MAX_STEPS])
    baseline = score([0, 1, 0], num_steps=[7, 40, MAX_STEPS])
    result = throughput_ratio([pair(candidate, baseline)], seed=0)
    per_hour = 3600 * 20.0
    assert result.candidate_rate == pytest.approx(2 / 200 * per_hour)
    assert result.baseline_rate == pytest.approx(1 / 240 * per_hour)
    assert result.estimate == pytest.approx(2.4)


def test_a_ratio_over_a_baseline_that_never_succeeds_says_why_there_is_none() -> None:
    result = throughput_ratio([pair(share(5), share(0)), pair(share(7), share(0), seed=1)], seed=0)
    assert result.estimate is None
    assert result.bootstrap is None
    assert result.reason == "the baseline solved none of its 20 episodes"
    assert result.candidate_rate > 0


def test_a_baseline_with_one_success_leaves_the_ratio_without_an_upper_limit() -> None:
    result = throughput_ratio([pair(share(5), share(1))], seed=0)
    assert result.bootstrap is not None
    assert result.estimate is not None
    assert result.bootstrap.high == math.inf
    assert 0 < result.bootstrap.low < result.estimate


def test_the_ratio_s_interval_excludes_one_where_the_candidate_is_far_better() -> None:
    result = throughput_ratio([pair(share(90, episodes=100), share(40, episodes=100), seed=cell) for cell in range(3)], seed=0)
    assert result.bootstrap is not None
    assert result.estimate is not None
    assert 1.5 < result.bootstrap.low < result.estimate < result.bootstrap.high < math.inf


def test_steps_are_compared_only_on_episodes_that_both_solve() -> None:
    candidate = score([1, 1, 1, 0, 1], num_steps=[10, 20, 30, 100, 5])
    baseline = score([1, 1, 1, 1, 0], num_steps=[50, 40, 60, 1, 100])
    result = steps_to_success([pair(candidate, baseline), pair(share(0), share(10), seed=1)], seed=0)
    assert result is not None
    assert (result.candidate_median, result.baseline_median, result.difference) == (20.0, 50.0, -30.0)
    assert (result.num_episodes, result.num_cells) == (3, 1)
    assert result.bootstrap.low <= -30 <= result.bootstrap.high < 0


def test_drawn_medians_are_those_of_the_resampled_episodes() -> None:
    steps = [[12, 30, 31, 55, 70, 71], [80, 40, 42, 42, 90, 91]]
    cell = pair(score([1] * 6, num_steps=steps[0]), score([1] * 6, num_steps=steps[1]))
    result = steps_to_success([cell], seed=5, num_draws=200)
    counts = resample_counts(6, rng=np.random.default_rng(5), num_draws=200).astype(int)
    drawn = [np.median(np.repeat(steps[0], count)) - np.median(np.repeat(steps[1], count)) for count in counts]
    assert result is not None
    assert (result.bootstrap.low, result.bootstrap.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))


def test_there_are_no_steps_to_compare_where_nothing_is_solved_by_both() -> None:
    assert steps_to_success([pair(score([1, 0]), score([0, 1]))], seed=0) is None


def test_the_same_seed_gives_the_same_numbers() -> None:
    cells = [pair(share(6), share(4)), pair(share(7), share(2), seed=1)]
    for statistic in (success_difference, throughput_ratio, steps_to_success):
        assert statistic(cells, seed=4) == statistic(cells, seed=4)


def test_other_placements_are_no_pairs() -> None:
    with pytest.raises(DataError, match=r"task 3, seed 7.* spec-a and spec-b differ"):
        Pair(cell=(3, 7), candidate=share(5, eval_spec="spec-a"), baseline=share(5, eval_spec="spec-b"))
    ours = row("recap", seed=7, task=3, first=share(1), final=share(2, eval_spec="spec-a"))
    theirs = row("resft", seed=7, task=3, first=share(1), final=share(2, eval_spec="spec-b"))
    with pytest.raises(DataError, match="spec-a and spec-b"):
        pair_variants([ours, theirs], candidate="recap", baseline="resft")


def test_another_number_of_episodes_is_no_pairing() -> None:
    with pytest.raises(DataError, match="10 episodes meet 9"):
        pair(share(5), share(5, episodes=9))


def test_variants_are_paired_on_the_cells_that_both_have() -> None:
    rows = [row("recap", seed=seed, first=share(1), final=share(2 + seed)) for seed in (3, 1, 2)]
    rows += [row("resft", seed=seed, first=share(1), final=share(2)) for seed in (4, 3, 1)]
    pairs = pair_variants(rows, candidate="recap", baseline="resft")
    assert [(cell.cell, cell.candidate.successes, cell.baseline.successes) for cell in pairs] == [
        ((0, 1), 3, 2),
        ((0, 3), 5, 2),
    ]


def test_a_score_that_only_some_rows_have_is_paired_within_those() -> None:
    rows = [
        row("recap", seed=1, first=share(1), final=share(6), final_negative=share(2)),
        row("recap", seed=2, first=share(1), final=share(6)),
    ]
    pairs = pair_scores(rows, variant="recap", baseline="final-negative")
    assert [(cell.cell, cell.baseline.successes) for cell in pairs] == [((0, 1), 2)]


def test_a_cell_that_was_run_twice_is_an_error() -> None:
    twice = [row("recap", seed=1, first=share(1), final=share(2))] * 2
    with pytest.raises(DataError, match="two rows for task 0, seed 1"):
        pair_scores(twice, variant="recap")


def test_nothing_to_compare_is_an_error() -> None:
    with pytest.raises(DataError, match="no cell"):
        success_difference([], seed=0)
