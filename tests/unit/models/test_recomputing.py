"""Layers that are computed once more give the same loss and the same gradients to the bit."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from opentau.models.recomputing import Recomputation, recompute_layers
from opentau.training.objectives import PolicyObjective
from opentau.training.options import ObjectiveOptions
from tests.unit.policies.parts import FAMILY, batch, model, processor


def with_dropout(name: str):
    config = FAMILY[name]()
    return dataclasses.replace(
        config,
        backbone=dataclasses.replace(config.backbone, dropout=0.2),
        expert=dataclasses.replace(config.expert, dropout=0.2),
    )


def passed(name: str, *, is_recomputed: bool, options: ObjectiveOptions) -> tuple[Tensor, dict[str, Tensor]]:
    config = with_dropout(name)
    vla = model(config).train()
    if is_recomputed:
        recompute_layers(vla)
    objective = PolicyObjective(vla, processor=processor(config), options=options)
    torch.manual_seed(5)
    loss, _ = objective(batch())
    loss.backward()
    return loss, {name: parameter.grad for name, parameter in vla.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("options", [{}, {"fast_weight": 0.5}, {"fast_weight": 0.5, "is_insulated": True}])
@pytest.mark.parametrize("name", FAMILY)
def test_loss_and_gradients_are_the_same_bits_with_dropout_on(name: str, options: dict) -> None:
    loss, gradients = passed(name, is_recomputed=False, options=ObjectiveOptions(**options))
    again, recomputed = passed(name, is_recomputed=True, options=ObjectiveOptions(**options))
    assert torch.equal(loss, again)
    assert gradients.keys() == recomputed.keys()
    for parameter, gradient in gradients.items():
        assert torch.equal(gradient, recomputed[parameter]), parameter


def test_without_gradients_layers_are_called_as_ever() -> None:
    layer, call = torch.nn.Dropout(0.5), Recomputation()
    recompute_layers(call)
    with torch.no_grad():
        torch.manual_seed(0)
        wanted = layer(torch.ones(8))
        torch.manual_seed(0)
        assert torch.equal(call(layer, torch.ones(8)), wanted)
