"""When a critic is too poor to label with, and when it only looks so."""

from __future__ import annotations

import numpy as np
import pytest

from opentau.errors import CriticError, DataError
from opentau.types import Source
from opentau.value.checks import calibration_error, doubts, measure_critic, require_usable, spearman, stratified_auroc


def outcomes_table(make_table, sketch, *, successes: int, failures: int, task_id: str = "box/0"):
    sketches = [sketch(length=10, is_success=True, task_id=task_id)] * successes
    return make_table(sketches + [sketch(length=20, is_success=False, task_id=task_id)] * failures)


def values_by_episode(frames, scores) -> np.ndarray:
    return np.asarray(scores, np.float32)[frames.table.episode]


def test_auroc_counts_pairs_and_ties_half() -> None:
    auroc, _ = stratified_auroc([(np.array([3.0, 2.0]), np.array([1.0, 2.0]))])
    assert auroc == pytest.approx(3.5 / 4)


def test_auroc_is_measured_within_tasks_so_that_easy_tasks_do_not_help() -> None:
    easy, hard = (np.array([-0.1, -0.1]), np.array([-0.1])), (np.array([-0.9]), np.array([-0.9, -0.9]))
    auroc, _ = stratified_auroc([easy, hard])
    assert auroc == pytest.approx(0.5)


def test_the_upper_bound_covers_the_truth_as_often_as_promised() -> None:
    rng = np.random.default_rng(0)
    truth = 0.64  # chance that a normal deviate half a deviation up lies above another
    bounds = [stratified_auroc([(rng.normal(0.507, 1, 15), rng.normal(0, 1, 15))])[1] for _ in range(2000)]
    assert 0.91 < np.mean(np.array(bounds) >= truth) < 0.98


def test_spearman_agrees_with_scipy_on_ties() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 6, 60), rng.integers(0, 6, 60)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert spearman(np.zeros(5), np.arange(5)) is None


def test_calibration_is_the_distance_within_tenths() -> None:
    returns = np.linspace(-1, 0, 200)
    assert calibration_error(returns, returns) == pytest.approx(0)
    assert calibration_error(returns * 0.5, returns) == pytest.approx(0.25, abs=0.01)
    assert calibration_error(np.zeros(3), np.zeros(3)) is None


def test_a_critic_that_says_the_same_of_everything_stops_the_run(make_table, sketch) -> None:
    frames = outcomes_table(make_table, sketch, successes=10, failures=10)
    rng = np.random.default_rng(0)
    flat = (-0.5 + rng.normal(scale=0.002, size=len(frames.table))).astype(np.float32)
    with pytest.raises(CriticError, match="nearly the same of every frame"):
        require_usable(measure_critic(flat, frames=frames, takeover="fail"))


def test_a_critic_that_surely_ranks_failures_above_successes_stops_the_run(make_table, sketch) -> None:
    frames = outcomes_table(make_table, sketch, successes=10, failures=10)
    rng = np.random.default_rng(0)
    inverted = values_by_episode(frames, np.r_[rng.uniform(-0.9, -0.5, 10), rng.uniform(-0.6, -0.2, 10)])
    with pytest.raises(CriticError, match="ranks failures above successes"):
        require_usable(measure_critic(inverted, frames=frames, takeover="fail"))


def test_an_unlucky_critic_on_few_episodes_does_not_stop_the_run(make_table, sketch) -> None:
    inverted_on_few = outcomes_table(make_table, sketch, successes=7, failures=20)
    scores = np.r_[np.linspace(-0.9, -0.8, 7), np.linspace(-0.4, -0.2, 20)]
    require_usable(measure_critic(values_by_episode(inverted_on_few, scores), frames=inverted_on_few, takeover="fail"))

    # Successes lie three quarters of a deviation higher, a true AUROC of 0.7; these twenty look worse than a guess.
    unlucky = outcomes_table(make_table, sketch, successes=10, failures=10)
    scores = -0.5 + 0.1 * (np.random.default_rng(8).normal(size=20) + 0.75 * (np.arange(20) < 10))
    quality = measure_critic(values_by_episode(unlucky, scores), frames=unlucky, takeover="fail")
    assert quality.auroc is not None
    assert quality.auroc < 0.5
    require_usable(quality)


def test_rounds_of_one_outcome_are_judged_by_spread_alone(make_table, sketch) -> None:
    frames = outcomes_table(make_table, sketch, successes=20, failures=0)
    quality = measure_critic(values_by_episode(frames, np.linspace(-0.6, -0.1, 20)), frames=frames, takeover="fail")
    assert (quality.auroc, quality.auroc_upper, quality.num_failures) == (None, None, 0)
    require_usable(quality)
    assert "value/auroc" not in quality.metrics()
    assert quality.metrics()["value/spread"] > 0.3


def test_demonstrations_do_not_flatter_the_critic(make_table, sketch) -> None:
    autonomous = [sketch(length=10, is_success=i % 2 == 0) for i in range(20)]
    demonstrations = [sketch(length=10, is_success=True, source=Source.DEMONSTRATION)] * 20
    frames = make_table(autonomous + demonstrations)
    scores = np.r_[np.full(20, -0.5), np.full(20, -0.1)]
    quality = measure_critic(values_by_episode(frames, scores), frames=frames, takeover="fail")
    assert quality.auroc == pytest.approx(0.5)
    assert (quality.num_successes, quality.num_failures) == (10, 10)


def test_an_attempt_that_was_taken_over_counts_as_failed_and_only_its_own_frames_are_judged(make_table, sketch) -> None:
    rescued = sketch(length=20, is_success=True, interventions=((5, 10),))
    frames = make_table([rescued, sketch(length=20, is_success=True)])
    is_attempt, is_success = frames.attempts(takeover="fail")
    assert np.array_equal(np.flatnonzero(is_attempt), [*range(5), *range(20, 40)])
    assert list(is_success) == [False, True]
    assert list(frames.attempts(takeover="actual")[1]) == [True, True]


def test_constants_that_differ_by_fold_are_no_spread(make_table, sketch) -> None:
    frames = outcomes_table(make_table, sketch, successes=10, failures=10)
    folds = np.arange(20) % 4
    constants = values_by_episode(frames, -0.5 - 0.05 * folds)
    with pytest.raises(CriticError, match="nearly the same of every frame"):
        require_usable(measure_critic(constants, frames=frames, takeover="fail", folds=folds))
    assert measure_critic(constants, frames=frames, takeover="fail").spread == pytest.approx(0.15, abs=0.01)


def test_explained_variance_is_one_for_returns_zero_for_a_constant_and_negative_for_what_contradicts_them(
    make_table, sketch
) -> None:
    frames = outcomes_table(make_table, sketch, successes=10, failures=10)
    returns = frames.returns(takeover="fail")

    def measured(values: np.ndarray) -> float:
        quality = measure_critic(values.astype(np.float32), frames=frames, takeover="fail")
        assert quality.explained_variance is not None
        assert quality.explained_variance_upper is not None
        assert quality.explained_variance_upper >= quality.explained_variance
        return quality.explained_variance

    assert measured(returns) == pytest.approx(1)
    assert measured(returns - 0.2) == pytest.approx(1, abs=1e-5)  # an offset costs nothing
    assert measured(np.full(len(returns), -0.3)) == pytest.approx(0, abs=1e-6)
    assert measured(-1 - returns) == pytest.approx(-3, abs=1e-4)


def test_a_critic_whose_noise_is_worse_than_one_number_stops_the_run_and_a_coarse_one_does_not(make_table, sketch) -> None:
    frames = outcomes_table(make_table, sketch, successes=40, failures=40)
    rng, is_success = np.random.default_rng(0), np.arange(80) < 40
    coarse = np.where(is_success, -0.3, -0.7) + rng.uniform(-0.3, 0.3, 80)
    require_usable(measure_critic(values_by_episode(frames, coarse), frames=frames, takeover="fail"))
    # Ranks better than chance, and swings over the whole range all the same.
    swinging = np.concatenate([np.where(rng.permutation(40) < count, 0.0, -1.0) for count in (26, 14)])
    quality = measure_critic(values_by_episode(frames, swinging), frames=frames, takeover="fail")
    assert quality.auroc is not None
    assert quality.auroc == pytest.approx(0.65)
    with pytest.raises(CriticError, match="worse than one number"):
        require_usable(quality)


def test_values_of_other_episodes_are_refused(make_table, sketch) -> None:
    frames = outcomes_table(make_table, sketch, successes=2, failures=2)
    for use in (
        lambda values: measure_critic(values, frames=frames, takeover="fail"),
        lambda values: frames.advantages(values, lookahead=None, takeover="fail"),
    ):
        with pytest.raises(DataError, match=f"59 values for {len(frames.table)} frames"):
            use(np.zeros(59, np.float32))


def demonstrated(make_table, sketch):
    """Demonstrations, successes that took the policy twice as long, and failures."""
    shown = [sketch(length=20, is_success=True, source=Source.DEMONSTRATION)] * 20
    return make_table(shown + [sketch(length=40, is_success=True)] * 20 + [sketch(length=80, is_success=False)] * 20)


def measured(frames, noise: float, *, demonstrations: float = 0.0, failures: float = 0.0):
    """Returns with noise by episode, and what is added for demonstrations and failures."""
    episode = np.random.default_rng(0).normal(scale=noise, size=60)
    episode[:20] += demonstrations
    episode[40:] += failures
    values = frames.returns(takeover="fail") + values_by_episode(frames, episode)
    return measure_critic(values.astype(np.float32), frames=frames, takeover="fail")


def test_faster_demonstrations_are_no_style_and_what_is_valued_beyond_the_return_is(make_table, sketch) -> None:
    frames = demonstrated(make_table, sketch)
    honest, leaking = measured(frames, 0.1), measured(frames, 0.1, demonstrations=0.3)
    assert honest.style_auroc == pytest.approx(0.5, abs=0.15)
    assert leaking.style_auroc is not None
    assert leaking.style_auroc > 0.95
    assert leaking.metrics()["value/style_auroc"] == leaking.style_auroc
    # Whichever is valued higher, the two are told apart.
    below = measured(frames, 0.1, demonstrations=-0.3)
    assert below.style_auroc is not None
    assert below.style_auroc < 0.05
    assert below.style_auroc_lower is not None
    assert below.style_auroc_lower > 0.85


def test_a_critic_that_goes_by_style_or_is_no_better_than_a_guess_is_doubted_and_used(make_table, sketch) -> None:
    frames = demonstrated(make_table, sketch)
    assert doubts(measured(frames, 0.1)) == []
    leaking = measured(frames, 0.2, demonstrations=0.8, failures=0.7)
    require_usable(leaking)
    told = doubts(leaking)
    assert any("may judge who acts" in text for text in told), leaking
    vague = measured(frames, 0.3, failures=0.75)
    assert any("not shown to tell successes from failures" in text for text in doubts(vague)), vague


def test_without_demonstrations_or_successes_nothing_is_said_of_style(make_table, sketch) -> None:
    frames = outcomes_table(make_table, sketch, successes=10, failures=10)
    quality = measure_critic(frames.returns(takeover="fail"), frames=frames, takeover="fail")
    assert (quality.style_auroc, quality.style_auroc_lower) == (None, None)
    assert doubts(quality) == []
