"""Which weights of a model a training changes: frozen parts, adapters in place of matrices, and a closer store of the rest."""

from __future__ import annotations

import torch
from torch import nn

from opentau.errors import OptionError
from opentau.models.lora import adapt, linear_layers, merge_adapters
from opentau.models.storing import store_matrices_as
from opentau.training.options import BFLOAT16, TuningOptions
from opentau.training.patterns import last_matches


def tune(model: nn.Module, options: TuningOptions, *, seed: int) -> None:
    """Freeze, adapt and narrow what the options name, in place; `settle` makes a plain model of it again.

    A pattern that matches nothing, or options that leave nothing to train, raise `OptionError`.
    """
    # Adapters are of layers that are frozen as well: only what was there before them can be frozen.
    frozen = last_matches(options.freeze, dict(model.named_parameters()), option="tuning.freeze")
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    adapters = {each.layers: each for each in options.adapt}
    layers = last_matches(adapters, linear_layers(model), option="tuning.adapt", what="linear layer")
    generator = torch.Generator().manual_seed(seed)
    for name, pattern in layers.items():
        if rank := adapters[pattern].rank:
            adapt(model, name, rank=rank, scale=adapters[pattern].scale, generator=generator)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise OptionError(
            f"tuning.freeze={list(options.freeze)} leaves nothing to train; freeze fewer parameters, or train adapters: "
            "tuning.adapt=[{layers: backbone.*, rank: 16}]"
        )
    if options.frozen_precision == BFLOAT16:
        store_matrices_as(model, torch.bfloat16, where=lambda weight: not weight.requires_grad)


def settle(model: nn.Module) -> None:
    """Make a plain float32 model of one that was tuned and trained, in place: adapters are added into their weights."""
    merge_adapters(model)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
        parameter.data = parameter.detach().float()


def start_training(model: nn.Module) -> None:
    """Put a model in training mode but for parts that are frozen as a whole: these drop nothing out and keep statistics."""
    model.train()
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()
