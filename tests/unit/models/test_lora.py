"""Adapters change nothing until they are trained, alone are trained, and end as plain weights that compute the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from opentau.models.lora import AdaptedLinear, adapt, linear_layers, merge_adapters
from opentau.policies.vla import VLA
from tests.unit.policies.parts import FAMILY, batch, model, prefix_inputs


def adapted(vla: VLA, *, rank: int = 4, scale: float = 0.5) -> VLA:
    generator = torch.Generator().manual_seed(1)
    for name in linear_layers(vla):
        adapt(vla, name, rank=rank, scale=scale, generator=generator)
    return vla


def velocities(vla: VLA) -> torch.Tensor:
    config, count = vla.config, 4
    torch.manual_seed(0)
    noisy = torch.randn(count, config.action_horizon, config.action_dim)
    context = vla.expert_context(vla.prefix(prefix_inputs(config, batch(count))))
    return vla.velocity(context, noisy_BHA=noisy, time_BX=torch.rand(count, 1))


def with_trained_adapters(vla: VLA) -> VLA:
    for module in adapted(vla).modules():
        if isinstance(module, AdaptedLinear):
            module.adapter_out.data.normal_(std=0.1)
    return vla


@pytest.mark.parametrize("name", FAMILY)
def test_the_start_is_the_base_model_to_the_bit(name: str) -> None:
    config = FAMILY[name]()
    # Frozen here as well: torch folds a product of a strided batch, such as π0's last, by whether its matrix is trained.
    base = model(config).requires_grad_(False)
    assert torch.equal(velocities(adapted(model(config))), velocities(base))


def test_the_names_of_the_base_weights_stay_and_two_are_added_for_each_layer() -> None:
    vla = model(FAMILY["pi05"]())
    before, num_layers = set(vla.state_dict()), len(linear_layers(vla))
    after = set(adapted(vla).state_dict())
    assert before < after
    assert len(after - before) == 2 * num_layers
    assert all(name.endswith(("adapter_in", "adapter_out")) for name in after - before)
    assert not linear_layers(vla)


def test_a_gradient_reaches_adapters_and_not_the_weights_below_them() -> None:
    vla = with_trained_adapters(model(FAMILY["pi05"]()))
    velocities(vla).square().sum().backward()
    layer = vla.expert.action_out
    assert layer.weight.grad is None
    assert layer.bias.grad is None
    assert layer.adapter_in.grad.any()
    assert layer.adapter_out.grad.any()


@pytest.mark.parametrize("name", FAMILY)
def test_merged_weights_compute_what_adapters_did_and_are_those_of_a_plain_model(name: str) -> None:
    config = FAMILY[name]()
    vla = with_trained_adapters(model(config))
    wanted = velocities(vla)
    assert not torch.allclose(wanted, velocities(model(config)), atol=1e-2)
    merge_adapters(vla)
    plain = model(config, seed=9)
    plain.load_state_dict(vla.state_dict(), strict=True)
    torch.testing.assert_close(velocities(vla), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(velocities(plain), wanted, rtol=1e-4, atol=1e-4)


def test_adapters_are_a_function_of_the_seed() -> None:
    layers = []
    for seed in (1, 1, 2):
        net = nn.Sequential(nn.Linear(5, 3))
        adapt(net, "0", rank=2, scale=1.0, generator=torch.Generator().manual_seed(seed))
        layers.append(net[0].adapter_in)
    assert torch.equal(layers[0], layers[1])
    assert not torch.equal(layers[0], layers[2])
