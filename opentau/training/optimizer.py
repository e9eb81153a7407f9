"""The optimiser of every training: AdamW, with learning rates by name and weight decay by shape."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from opentau.training.adamw8 import AdamW8
from opentau.training.options import TrainOptions
from opentau.training.patterns import last_matches


def build_optimizer(
    parameters: Mapping[str, nn.Parameter], options: TrainOptions, *, bits: int = 32
) -> torch.optim.AdamW | AdamW8:
    """Return AdamW with one group per (multiplier, decays or not) and its moments allocated.

    A pattern that matches no parameter raises `OptionError`; of several that match, the last wins. Frozen parameters may be
    given and named, but get nothing.
    """
    named = last_matches(options.learning_rate_multipliers, parameters, option="learning_rate_multipliers")
    parameters = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        multiplier = options.learning_rate_multipliers[named[name]] if name in named else 1.0
        groups.setdefault((multiplier, parameter.ndim >= 2), []).append(parameter)
    described = [
        {"params": members, "multiplier": multiplier, "weight_decay": options.weight_decay if decays else 0.0}
        for (multiplier, decays), members in groups.items()
    ]
    betas = (options.beta1, options.beta2)
    if bits == 8:
        return AdamW8(described, lr=options.learning_rate, betas=betas)
    optimizer = torch.optim.AdamW(described, lr=options.learning_rate, betas=betas, fused=True)
    for parameter in parameters.values():
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    return optimizer
