"""Moments in a byte each train as float32 ones do, take a quarter of the memory, and resume to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from opentau.training.adamw8 import BLOCK, AdamW8, code_values, decoded, encoded
from opentau.training.optimizer import build_optimizer
from opentau.training.options import TrainOptions, TuningOptions
from opentau.training.trainer import TrainSummary, train

OPTIONS = TrainOptions(
    num_updates=120, learning_rate=3e-3, num_warmup_updates=5, snapshot_interval=50, log_interval=30, num_threads=1
)


def net() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(20, 300), nn.GELU(), nn.Linear(300, 30), nn.GELU(), nn.Linear(30, 1))


def trained(work_dir: Path, *, bits: int, stop_at: int = -1) -> tuple[nn.Module, TrainSummary]:
    model = net()

    def loss(update: int, piece) -> tuple[Tensor, dict[str, Tensor]]:
        if update == stop_at:
            raise KeyboardInterrupt
        x_BI = torch.randn(64, 20)
        return nn.functional.mse_loss(model(x_BI)[:, 0], x_BI[:, :4].square().mean(dim=1)), {}

    tuning = TuningOptions(optimizer_bits=bits)
    return model, train(model, loss=loss, options=OPTIONS, seed=3, work_dir=work_dir, tuning=tuning)


def test_it_trains_to_the_loss_of_float32_moments(tmp_path: Path) -> None:
    losses = {bits: trained(tmp_path / str(bits), bits=bits)[1].metrics["train/loss"] for bits in (32, 8)}
    assert losses[32] < 0.3
    assert losses[8] == pytest.approx(losses[32], rel=0.1)


def test_a_training_killed_in_between_ends_in_the_same_bits(tmp_path: Path) -> None:
    straight, summary = trained(tmp_path / "straight", bits=8)
    for stop_at in (60, 110):
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "killed", bits=8, stop_at=stop_at)
    resumed, resumed_summary = trained(tmp_path / "killed", bits=8)
    assert resumed_summary == summary
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))


def test_large_tensors_take_two_bytes_a_weight_and_small_ones_stay_float32() -> None:
    model = net()
    state = build_optimizer(dict(model.named_parameters()), OPTIONS, bits=8).state
    large, small = state[model[2].weight], state[model[2].bias]
    num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in large.values())
    assert num_bytes / model[2].weight.numel() == pytest.approx(2 + 8 / BLOCK, abs=0.1)
    assert small["exp_avg"].dtype == torch.float32


def test_small_tensors_move_as_torchs_adamw_moves_them() -> None:
    parameters = [nn.Parameter(torch.linspace(-1, 1, 7)) for _ in range(2)]
    settings = {"lr": 1e-2, "betas": (0.9, 0.95)}
    optimizers = [
        torch.optim.AdamW([parameters[0]], weight_decay=0.1, **settings),
        AdamW8([{"params": [parameters[1]], "weight_decay": 0.1}], **settings),
    ]
    for _ in range(20):
        for parameter, optimizer in zip(parameters, optimizers, strict=True):
            parameter.grad = parameter.detach().sin()
            optimizer.step()
    torch.testing.assert_close(parameters[1], parameters[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("is_signed", "error"), [(True, 0.0071), (False, 0.0036)])
def test_codes_are_near_what_they_stand_for_whatever_its_scale(is_signed: bool, error: float) -> None:
    values = torch.tensor(code_values(is_signed=is_signed))
    assert len(set(values.tolist())) == 256
    numbers = torch.linspace(-1 if is_signed else 0, 1, 8 * BLOCK).view(8, BLOCK) * 10.0 ** torch.arange(-4, 4)[:, None]
    back = decoded(*encoded(numbers, values=values), values=values)
    assert ((back - numbers).abs().amax(dim=1) <= error * numbers.abs().amax(dim=1)).all()
    codes = torch.arange(256, dtype=torch.uint8).view(1, BLOCK)
    again, _ = encoded(decoded(codes, torch.ones(1), values=values), values=values)
    assert torch.equal(again, codes)


def test_a_block_of_zeros_stays_zero() -> None:
    values = torch.tensor(code_values(is_signed=True))
    assert not decoded(*encoded(torch.zeros(2, BLOCK), values=values), values=values).any()
