"""A mixture gives every part the share it promises, at any time, and a sample never shows what it does not have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from opentau.data.batches import Batch
from opentau.data.fitting import PolicySizes, fitted, joined
from opentau.data.mixture import Mixture, Part, Schedule
from opentau.errors import DataError
from opentau.types import Indicator

SIZES = PolicySizes(cameras=("agentview", "wrist"), image_size=4, state_dim=5, action_dim=3, action_horizon=2)


class Flat:
    """Draws samples that say how many were drawn before them."""

    def __init__(self, *, cameras: Sequence[str] = SIZES.cameras, state_dim: int = 5, action_dim: int = 3) -> None:
        self.cameras, self.state_dim, self.action_dim = cameras, state_dim, action_dim
        self.calls: list[tuple[int, int]] = []

    def draw(self, num_samples: int, *, rng: np.random.Generator, num_before: int) -> Batch:
        self.calls.append((num_before, num_samples))
        return Batch(
            images={camera: rng.integers(1, 256, (num_samples, 4, 4, 3), dtype=np.uint8) for camera in self.cameras},
            state=rng.normal(size=(num_samples, self.state_dim)).astype(np.float32),
            action=rng.normal(size=(num_samples, 2, self.action_dim)).astype(np.float32),
            action_is_pad=np.zeros((num_samples, 2), bool),
            prompt=[f"{number}" for number in range(num_samples)],
            indicator=np.full(num_samples, Indicator.POSITIVE, np.int8),
            weight=np.ones(num_samples, np.float32),
            frame=np.arange(num_samples),
            task=np.zeros(num_samples, np.int32),
        )


def mixture_of(weights: Sequence[object], *, sizes: Sequence[int] | None = None, num_updates: int = 1000, **options) -> Mixture:
    parts = [
        Part(name=f"part {index}", source=Flat(), weight=Schedule.of(weight), size=(sizes or [100] * len(weights))[index])
        for index, weight in enumerate(weights)
    ]
    return Mixture(parts, **{"sizes": SIZES, "batch_size": 10, "num_updates": num_updates, "seed": 0, **options})


def drawn_shares(mixture: Mixture, updates: range) -> np.ndarray:
    counts = np.array([mixture.counts(update) for update in updates])
    assert (counts.sum(axis=1) == mixture.batch_size).all()
    return counts.sum(axis=0) / counts.sum()


@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (0.05, 0.95), (1, 0, 2)])
def test_sampled_shares_are_the_weights_and_change_with_them(weights):
    shares = drawn_shares(mixture_of(weights), range(1000))
    wanted = np.array(weights) / sum(weights)
    # A count is the share rounded up or down, so its error over 1000 updates is far below that of independent draws.
    assert shares == pytest.approx(wanted, abs=4 * 0.5 / np.sqrt(1000) / 10)


def test_the_samples_of_a_batch_are_those_that_the_counts_promise():
    mixture = mixture_of((2, 1))
    for update in range(20):
        np.testing.assert_array_equal(np.bincount(mixture(update).part, minlength=2), mixture.counts(update))


@pytest.mark.parametrize(("exponent", "wanted"), [(0.0, [0.5, 0.5]), (1.0, [0.9, 0.1]), (0.5, [0.75, 0.25])])
def test_weights_go_by_size_as_far_as_the_exponent_says(exponent, wanted):
    mixture = mixture_of((1, 1), sizes=[9000, 1000], size_exponent=exponent)
    assert mixture.shares(0) == pytest.approx(wanted)


def test_a_schedule_moves_the_shares_over_the_training():
    mixture = mixture_of(([(0, 1), (0.5, 1), (1, 0)], 1), num_updates=1001)
    assert mixture.shares(0) == pytest.approx([0.5, 0.5])
    assert mixture.shares(500) == pytest.approx([0.5, 0.5])
    assert mixture.shares(750) == pytest.approx([1 / 3, 2 / 3])
    assert mixture.shares(1000) == pytest.approx([0, 1])
    assert drawn_shares(mixture, range(950, 1000))[0] < 0.1


def test_any_batch_can_be_asked_for_at_any_time():
    running = mixture_of((2, 1))
    batches = [running(update) for update in range(30)]
    fresh = mixture_of((2, 1))(29)
    np.testing.assert_array_equal(fresh.state, batches[29].state)
    np.testing.assert_array_equal(fresh.images["wrist"], batches[29].images["wrist"])
    assert not np.array_equal(batches[28].state[:3], batches[29].state[:3])


def test_a_part_is_told_how_many_samples_went_before():
    mixture = mixture_of((3, 1))
    for update in range(200):
        mixture(update)
    for part, share in zip(mixture.parts, (0.75, 0.25), strict=True):
        starts = [start for start, _ in part.source.calls]
        assert starts[-1] == pytest.approx(199 * 10 * share, abs=1)
        assert starts == sorted(starts)


def test_what_a_robot_lacks_is_masked_and_zero():
    batch = fitted(
        Flat(cameras=("wrist",), state_dim=2, action_dim=1).draw(3, rng=np.random.default_rng(0), num_before=0), SIZES, part=4
    )
    assert batch.has_camera["wrist"].all()
    assert not batch.has_camera["agentview"].any()
    assert not batch.images["agentview"].any()
    assert batch.state.shape == (3, 5)
    assert not batch.state[:, 2:].any()
    assert batch.has_action_dim.tolist() == [[True, False, False]] * 3
    assert (batch.part == 4).all()


def test_batches_of_different_robots_lie_side_by_side_and_come_apart_again():
    rng = np.random.default_rng(0)
    one, other = (fitted(Flat(action_dim=dim).draw(2, rng=rng, num_before=0), SIZES, part=dim) for dim in (3, 1))
    both = joined([one, other])
    assert len(both) == 4
    again = both.rows(np.array([2, 3]))
    for name in ("state", "action", "has_action_dim", "part"):
        np.testing.assert_array_equal(getattr(again, name), getattr(other, name))
    np.testing.assert_array_equal(again.images["wrist"], other.images["wrist"])
    assert again.prompt == other.prompt


def test_a_robot_with_more_than_the_policy_has_is_refused():
    batch = Flat(cameras=("front",), state_dim=9).draw(1, rng=np.random.default_rng(0), num_before=0)
    with pytest.raises(DataError, match=r"has the cameras \['front'\], 9 state and 3 action dimensions; the policy has"):
        fitted(batch, SIZES, part=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mixture_of((0, 0)), r"all weights of the mixture \(part 0, part 1\) are 0 at update 0"),
        (lambda: mixture_of(([(0, 1), (0.5, 0)], 0)), r"are 0 at update 500"),
        (lambda: mixture_of((-1, 2)), r"a weight is -1\.0; weights are finite and at least 0"),
        (lambda: mixture_of((float("nan"), 2)), r"a weight is nan"),
        (lambda: mixture_of(([(0.5, 1), (0.2, 1)],)), r"have the progress \[0\.5, 0\.2\]; it ascends within 0 to 1"),
        (lambda: mixture_of(()), r"the parts of the mixture are \[\]; give at least one"),
        (lambda: mixture_of((1,), size_exponent=2.0), r"size_exponent is 2\.0"),
    ],
)
def test_weights_that_make_no_mixture_are_named(make, message):
    with pytest.raises(DataError, match=message):
        make()
