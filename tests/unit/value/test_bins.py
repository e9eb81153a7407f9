"""Distributions that stand for returns."""

from __future__ import annotations

import pytest
import torch

from opentau.errors import OptionError
from opentau.value.bins import TARGETS, bin_centers, expected_value, target_distribution

RETURNS = torch.tensor([-1.0, -0.7231, -0.5, -0.2504, -0.0026, 0.0])


@pytest.mark.parametrize("kind", sorted(TARGETS))
def test_a_target_is_a_distribution_whose_mean_is_the_return(kind: str) -> None:
    target = target_distribution(RETURNS, kind=kind, num_bins=201, sigma=0.75)
    assert target.shape == (6, 201)
    assert (target >= 0).all()
    assert torch.allclose(target.sum(dim=1), torch.ones(6), atol=1e-5)
    tolerance = {"two_hot": 1e-5, "one_hot": 0.0026, "hl_gauss": 0.0035}[kind]
    assert torch.allclose(target @ bin_centers(201), RETURNS, atol=tolerance)


def test_a_normal_target_spreads_over_neighbours_and_two_hot_does_not() -> None:
    one = torch.tensor([-0.5])
    widths = {kind: int((target_distribution(one, kind=kind, num_bins=201, sigma=0.75) > 1e-4).sum()) for kind in TARGETS}
    assert widths == {"one_hot": 1, "two_hot": 1, "hl_gauss": 7}


def test_a_prediction_that_equals_the_target_has_its_mean() -> None:
    target = target_distribution(RETURNS, kind="two_hot", num_bins=201, sigma=0.75)
    assert torch.allclose(expected_value((target + 1e-9).log()), RETURNS, atol=1e-4)


def test_returns_outside_the_range_are_taken_to_its_ends() -> None:
    target = target_distribution(torch.tensor([-1.4, 0.2]), kind="two_hot", num_bins=11, sigma=0.75)
    assert target[0, 0] == 1
    assert target[1, -1] == 1


def test_an_unknown_target_is_refused_with_near_matches() -> None:
    with pytest.raises(OptionError, match="hl_gauss"):
        target_distribution(RETURNS, kind="hl_gaus", num_bins=201, sigma=0.75)
