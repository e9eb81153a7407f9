"""Guided real-time chunking: chunks continue what is committed, smoothly, and nothing changes where nothing is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from opentau.models.continuing import continuation_weights, continued, towards
from opentau.models.flow import integrate

HORIZON, COUNT = 16, 256


def _smooth_motions(x_BHA, time_BX):
    """Return the exact velocity towards chunks drawn from a Gaussian process, and so smooth."""
    step_H = torch.arange(HORIZON, dtype=torch.float64)
    covariance_HH = torch.exp(-(step_H[:, None] - step_H[None]).square() / 18)
    time = float(time_BX[0, 0])
    spread_HH = (1 - time) ** 2 * covariance_HH + time**2 * torch.eye(HORIZON, dtype=torch.float64)
    expected_HH = ((1 - time) * covariance_HH @ torch.linalg.inv(spread_HH)).float()
    return (x_BHA - expected_HH @ x_BHA) / time


def _two_ways(x_BHA, time_BX):
    """Return the exact velocity towards chunks that are 1 throughout or -1 throughout, each half of the time."""
    time_BX1 = time_BX[..., None]
    way_B11 = torch.tanh((1 - time_BX1) / time_BX1.square() * x_BHA.sum(dim=(1, 2), keepdim=True))
    return (x_BHA - way_B11) / time_BX1


def _continue(velocity, wanted, *, num_committed, num_fresh=None, limit=5.0, num_steps=5):
    count, horizon, dim = wanted.shape
    num_fresh = horizon - num_committed if num_fresh is None else num_fresh
    weight = torch.from_numpy(continuation_weights(num_committed, horizon=horizon, num_fresh=num_fresh))
    noise = torch.randn(count, horizon, dim, generator=torch.Generator().manual_seed(1))
    free = integrate(velocity, noise_BHA=noise, num_steps=num_steps)
    drawn = continued(
        velocity,
        noise_BHA=noise,
        num_steps=num_steps,
        wanted_BHA=wanted,
        weight_BH=weight.expand(count, -1),
        is_committed_BH=(torch.arange(horizon) < num_committed).expand(count, -1),
        limit=limit,
    )
    return free, drawn


def test_the_weights_are_those_of_the_paper():
    weights = continuation_weights(2, horizon=8, num_fresh=3)
    fallen = np.array([3, 2, 1]) / 4
    assert np.allclose(weights, [1, 1, *(fallen * (np.exp(fallen) - 1) / (np.e - 1)), 0, 0, 0])
    assert continuation_weights(3, horizon=5, num_fresh=2).tolist() == [1, 1, 1, 0, 0]
    assert continuation_weights(0, horizon=3, num_fresh=3).tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="do not fit into a chunk of 5"):
        continuation_weights(3, horizon=5, num_fresh=3)


@pytest.mark.parametrize("num_committed", [2, 4])
def test_a_chunk_goes_on_smoothly_from_where_the_committed_actions_end(num_committed):
    noise = torch.randn(COUNT, HORIZON, 1, generator=torch.Generator().manual_seed(0))
    before = integrate(_smooth_motions, noise_BHA=noise, num_steps=40)
    free, drawn = _continue(_smooth_motions, before, num_committed=num_committed)
    assert torch.equal(drawn[:, :num_committed], before[:, :num_committed])
    seam = (drawn[:, num_committed] - drawn[:, num_committed - 1]).abs().mean()
    jump = (free[:, num_committed] - before[:, num_committed - 1]).abs().mean()
    usual = drawn[:, num_committed:].diff(dim=1).abs().mean()
    assert seam < 0.4 * jump
    assert seam < 2 * usual


def test_a_soft_overlap_keeps_more_of_the_last_chunk():
    noise = torch.randn(COUNT, HORIZON, 1, generator=torch.Generator().manual_seed(0))
    before = integrate(_smooth_motions, noise_BHA=noise, num_steps=40)
    hard, soft = (_continue(_smooth_motions, before, num_committed=3, num_fresh=fresh)[1] for fresh in (13, 4))
    overlap = slice(3, 12)
    assert (soft - before)[:, overlap].abs().mean() < 0.7 * (hard - before)[:, overlap].abs().mean()


def test_of_two_ways_the_one_that_was_begun_is_taken():
    wanted = torch.ones(COUNT, 8, 2)
    free, drawn = _continue(_two_ways, wanted, num_committed=3)
    assert 0.3 < (free[:, 3:].mean(dim=(1, 2)) > 0).float().mean() < 0.7
    assert (drawn[:, 3:].mean(dim=(1, 2)) > 0.5).float().mean() > 0.9


def test_rows_that_commit_nothing_are_what_they_would_be_bit_for_bit():
    wanted = torch.zeros(4, 8, 2)
    free, drawn = _continue(_two_ways, wanted, num_committed=0)
    assert torch.equal(free, drawn)


@pytest.mark.parametrize(("time", "strength"), [(1.0, 5.0), (0.5, 2.0), (0.2, 4.25), (0.1, 5.0)])
def test_the_pull_has_the_strength_of_the_paper_and_no_more_than_the_limit(time, strength):
    x, wanted = torch.zeros(1, 2, 1), torch.ones(1, 2, 1)
    # Towards chunks that are 0: x - t v = 0 whatever x would have no gradient, so half of x is left.
    velocity = towards(lambda x, time: x / 2 / time[..., None], wanted_BHA=wanted, weight_BH=torch.ones(1, 2), limit=5.0)
    guided = velocity(x, torch.full((1, 1), time))
    assert guided.flatten().tolist() == pytest.approx([-strength / 2] * 2)
