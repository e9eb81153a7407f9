"""AdamW whose two numbers per weight are a byte each: blocks share a scale, codes are closer near zero (arXiv:2110.02861)."""

# Shapes: K blocks of a tensor, L numbers of a block.

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from opentau.errors import OptionError

BLOCK = 256
MIN_SIZE = 4096
"""Smaller tensors, such as norms and biases, keep float32: they weigh nothing and matter."""
BLOCKS_AT_A_TIME = 16_384
"""Of a large tensor, so that what is in float32 meanwhile stays at some tens of megabytes."""
NUM_DECADES = 7


class AdamW8(torch.optim.Optimizer):
    """`torch.optim.AdamW` with 8-bit state; of the second moment the root is kept, whose codes reach twice as far down."""

    def __init__(self, groups: Iterable[dict[str, Any]], *, lr: float, betas: tuple[float, float], eps: float = 1e-8) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0, "multiplier": 1.0})
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter] = _new_state(parameter)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Do one update of every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, self.state[parameter], group)

    def _update(self, parameter: nn.Parameter, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        state["step"] += 1
        weights, gradients, size = parameter.view(-1), parameter.grad.reshape(-1), BLOCK * BLOCKS_AT_A_TIME  # type: ignore[union-attr]
        step = state["step"].item()
        for start in range(0, len(weights), size):
            rows = slice(start // BLOCK, start // BLOCK + BLOCKS_AT_A_TIME)
            weight, gradient = weights[start : start + size], gradients[start : start + size]
            first, root = (_read(state, name, rows)[: len(weight)] for name in ("exp_avg", "exp_avg_sq"))
            (beta1, beta2), learning_rate = group["betas"], group["lr"]
            first.lerp_(gradient, 1 - beta1)
            root.square_().mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2).sqrt_()
            weight.mul_(1 - learning_rate * group["weight_decay"])
            spread = root / (1 - beta2**step) ** 0.5 + group["eps"]
            weight.addcdiv_(first, spread, value=-learning_rate / (1 - beta1**step))
            _write(state, "exp_avg", rows, first)
            _write(state, "exp_avg_sq", rows, root)


def _new_state(parameter: Tensor) -> dict[str, Tensor]:
    if isinstance(parameter, DTensor):
        raise OptionError(
            "tuning.optimizer_bits=8 works on whole weights only; use training.strategy=ddp, or 32 bits with fsdp"
        )
    state = {"step": torch.zeros((), dtype=torch.float32)}
    for name in ("exp_avg", "exp_avg_sq"):
        if parameter.numel() < MIN_SIZE:
            state[name] = torch.zeros(parameter.numel(), device=parameter.device)
            continue
        num_blocks = -(-parameter.numel() // BLOCK)
        zero = code_values(is_signed=name == "exp_avg").index(0.0)
        state[name] = torch.full((num_blocks, BLOCK), zero, dtype=torch.uint8, device=parameter.device)
        state[f"{name}_scale"] = torch.zeros(num_blocks, device=parameter.device)
    return state


def _read(state: dict[str, Tensor], name: str, rows: slice) -> Tensor:
    """Return a moment as float32 in one row, of these blocks if it has any; it may be written into."""
    if f"{name}_scale" not in state:
        return state[name].clone()
    values = torch.tensor(code_values(is_signed=name == "exp_avg"), device=state[name].device)
    return decoded(state[name][rows], state[f"{name}_scale"][rows], values=values).flatten()


def _write(state: dict[str, Tensor], name: str, rows: slice, moment: Tensor) -> None:
    if f"{name}_scale" not in state:
        state[name].copy_(moment)
        return
    values = torch.tensor(code_values(is_signed=name == "exp_avg"), device=moment.device)
    blocks_KL = F.pad(moment, (0, -len(moment) % BLOCK)).view(-1, BLOCK)
    state[name][rows], state[f"{name}_scale"][rows] = encoded(blocks_KL, values=values)


@lru_cache(maxsize=2)
def code_values(*, is_signed: bool) -> tuple[float, ...]:
    """Return what the 256 codes stand for, ascending in [-1, 1] or [0, 1] (dynamic tree quantisation, section 1.3).

    Of every decade below 1 a code knows half as many numbers as of the one above it, evenly spaced.
    """
    values = [0.0, 1.0]
    for decade in range(NUM_DECADES):
        count = 2 ** (NUM_DECADES - decade - is_signed)
        middles = [(0.1 + 0.9 * (index + 0.5) / count) * 10.0**-decade for index in range(count)]
        values += middles + ([-middle for middle in middles] if is_signed else [])
    return tuple(sorted(values))


def encoded(blocks_KL: Tensor, *, values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nearest codes, uint8 [K, L], and the scale of every block, float32 [K]."""
    scale_K = blocks_KL.abs().amax(dim=1)
    shares_KL = blocks_KL / scale_K.clamp_min(torch.finfo(torch.float32).tiny)[:, None]
    between = (values[:-1] + values[1:]) / 2
    return torch.bucketize(shares_KL, between, out_int32=True).to(torch.uint8), scale_K


def decoded(code_KL: Tensor, scale_K: Tensor, *, values: Tensor) -> Tensor:
    """Return what codes stand for, float32 [K, L]."""
    return values[code_KL.int()] * scale_K[:, None]
