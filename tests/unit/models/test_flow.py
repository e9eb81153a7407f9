"""Flow matching: the path, the times, the integration, and that all of it learns a distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from opentau.models.flow import integrate, noisy_action, sample_time, target_velocity, time_features


def test_time_one_is_noise_and_time_zero_the_action():
    action, noise = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    time = torch.tensor([[1.0], [0.0]])
    point = noisy_action(action_BHA=action, noise_BHA=noise, time_BX=time)
    assert torch.equal(point[0], noise[0])
    assert torch.equal(point[1], action[1])


def test_the_target_velocity_leads_from_any_point_to_the_action():
    action, noise, time = torch.randn(2, 3, 4), torch.randn(2, 3, 4), torch.rand(2, 3)
    point = noisy_action(action_BHA=action, noise_BHA=noise, time_BX=time)
    back = point - time[..., None] * target_velocity(action_BHA=action, noise_BHA=noise)
    assert torch.allclose(back, action, atol=1e-6)


def test_times_are_beta_distributed():
    times = sample_time((20_000,), generator=torch.Generator().manual_seed(0))
    assert times.min() >= 0.001
    assert times.max() <= 1.0
    unscaled = np.sort((times.double().numpy() - 0.001) / 0.999)
    largest_gap = np.abs(unscaled**1.5 - (np.arange(len(unscaled)) + 0.5) / len(unscaled)).max()
    assert largest_gap < 1.63 / np.sqrt(len(unscaled))  # Kolmogorov-Smirnov at 1 %


def test_time_features_are_sines_then_cosines_of_geometric_periods():
    features = time_features(torch.tensor([[0.3]]), dim=6, min_period=0.1, max_period=10.0)[0, 0].numpy()
    angles = 2 * np.pi * 0.3 / np.array([0.1, 1.0, 10.0])
    assert np.allclose(features, np.concatenate([np.sin(angles), np.cos(angles)]), atol=1e-5)


@pytest.mark.parametrize("num_steps", [1, 4, 10])
def test_integration_is_exact_for_a_straight_path(num_steps):
    action, noise = torch.randn(2, 5, 3), torch.randn(2, 5, 3)
    arrived = integrate(lambda _x, _time: noise - action, noise_BHA=noise, num_steps=num_steps)
    assert torch.allclose(arrived, action, atol=1e-5)


def test_committed_actions_are_clean_at_time_zero_in_every_step_and_come_out_as_they_went_in():
    committed, noise = torch.randn(2, 5, 3), torch.randn(2, 5, 3)
    is_committed = torch.tensor([[True, True, False, False, False], [False] * 5])
    seen = []

    def velocity(x, time):
        seen.append((x.clone(), time.clone()))
        return torch.randn_like(x)

    arrived = integrate(velocity, noise_BHA=noise, num_steps=4, committed_BHA=committed, is_committed_BH=is_committed)
    assert torch.equal(arrived[0, :2], committed[0, :2])
    for x, time in seen:
        assert torch.equal(x[0, :2], committed[0, :2])
        assert time[0, :2].tolist() == [0.0, 0.0]
        assert (time[0, 2:] > 0).all()
        assert (time[1] > 0).all()


def test_flow_matching_recovers_a_two_sided_distribution():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

    def velocity(x, time):
        return model(torch.cat([x[..., 0], time.expand(-1, 1)], dim=-1))[..., None]

    for _ in range(500):
        action = torch.where(torch.rand(256, 1, 1) < 0.25, -1.0, 1.0) + 0.05 * torch.randn(256, 1, 1)
        noise, time = torch.randn_like(action), sample_time((256, 1))
        predicted = velocity(noisy_action(action_BHA=action, noise_BHA=noise, time_BX=time), time)
        loss = (predicted - target_velocity(action_BHA=action, noise_BHA=noise)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        drawn = integrate(velocity, noise_BHA=torch.randn(2_000, 1, 1), num_steps=20).flatten()
    assert float((drawn < 0).float().mean()) == pytest.approx(0.25, abs=0.06)
    assert float((drawn.abs() - 1).abs().mean()) < 0.2
