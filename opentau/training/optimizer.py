"""The optimiser of every training: AdamW, with learning rates by name and weight decay by shape."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

import torch
from torch import nn

from opentau.errors import OptionError, near_matches
from opentau.training.options import TrainOptions


def build_optimizer(parameters: Mapping[str, nn.Parameter], options: TrainOptions) -> torch.optim.AdamW:
    """Return AdamW with one group per (multiplier, decays or not) and its moments allocated.

    A pattern that matches no parameter raises `OptionError`; of several that match, the last wins.
    """
    for pattern in options.learning_rate_multipliers:
        if not any(fnmatchcase(name, pattern) for name in parameters):
            raise OptionError(
                f"learning_rate_multipliers: no parameter matches {pattern!r}.{near_matches(pattern, parameters)}"
            )
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        multipliers = [value for pattern, value in options.learning_rate_multipliers.items() if fnmatchcase(name, pattern)]
        groups.setdefault((multipliers[-1] if multipliers else 1.0, parameter.ndim >= 2), []).append(parameter)
    optimizer = torch.optim.AdamW(
        [
            {"params": members, "multiplier": multiplier, "weight_decay": options.weight_decay if decays else 0.0}
            for (multiplier, decays), members in groups.items()
        ],
        lr=options.learning_rate,
        betas=(options.beta1, options.beta2),
        fused=True,
    )
    for parameter in parameters.values():
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    return optimizer
