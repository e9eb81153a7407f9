"""Frozen parts take nothing, adapters start as nothing and end inside their weights, and a checkpoint is always a plain one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from opentau.errors import OptionError, TrainingError
from opentau.training.options import BFLOAT16, AdapterOptions, TrainOptions, TuningOptions
from opentau.training.snapshot import StoredTensors
from opentau.training.trainer import train
from opentau.training.tuning import settle, start_training, tune
from tests.unit.policies.parts import batch, model, nano_like, pi05_like, prefix_inputs

OPTIONS = TrainOptions(num_updates=6, learning_rate=1e-2, num_warmup_updates=1, snapshot_interval=2)
LORA = TuningOptions(adapt=(AdapterOptions(layers="backbone.*", rank=4), AdapterOptions(layers="expert.*", rank=2, scale=0.5)))


class Net(nn.Module):
    """A frozen tower with dropout and running statistics below a head."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.tower = nn.Sequential(nn.Linear(3, 16), nn.BatchNorm1d(16), nn.Dropout(0.5))
            self.head = nn.Sequential(nn.Linear(16, 8), nn.Dropout(0.5), nn.Linear(8, 1))

    def forward(self, x_BI: Tensor) -> Tensor:
        return self.head(self.tower(x_BI))


def trained(net: nn.Module, work_dir: Path, tuning: TuningOptions, *, options: TrainOptions = OPTIONS, stop_at: int = -1):
    def loss(update: int, piece) -> tuple[Tensor, dict[str, Tensor]]:
        if update == stop_at:
            raise KeyboardInterrupt
        x_BI = torch.randn(32, 3)
        return nn.functional.mse_loss(net(x_BI)[:, 0], x_BI.sum(dim=1)), {}

    tune(net, tuning, seed=1)
    return train(net, loss=loss, options=options, seed=3, work_dir=work_dir, tuning=tuning)


def snapshot(work_dir: Path) -> set[str]:
    [folder] = work_dir.glob("update-*")
    return set(StoredTensors(folder))


def test_a_frozen_part_stays_and_takes_no_gradient_moment_average_or_place_in_a_snapshot(tmp_path: Path) -> None:
    net = Net()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    summary = trained(net, tmp_path, TuningOptions(freeze=("tower.*",)))
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]) == name.startswith("tower."), name
    assert all(parameter.grad is None for parameter in net.tower.parameters())
    assert summary.num_parameters == sum(parameter.numel() for parameter in net.head.parameters())
    assert {name for name in snapshot(tmp_path) if "tower." in name} == {
        f"buffer.tower.1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")
    }


def test_what_is_frozen_as_a_whole_drops_nothing_out_while_the_rest_trains() -> None:
    net = Net()
    tune(net, TuningOptions(freeze=("tower.*", "head.0.*")), seed=0)
    start_training(net)
    assert not any(module.training for module in net.tower.modules())
    assert net.head.training
    assert net.head[1].training


def test_learning_rates_may_name_what_is_frozen(tmp_path: Path) -> None:
    options = replace(OPTIONS, learning_rate_multipliers={"tower.*": 3.0})
    trained(Net(), tmp_path, TuningOptions(freeze=("tower.*",)), options=options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (TuningOptions(freeze=("towre.*",)), r"tuning.freeze: no parameter matches 'towre.\*'.*tower"),
        (
            TuningOptions(adapt=(AdapterOptions(layers="haed.0", rank=4),)),
            "tuning.adapt: no linear layer matches 'haed.0'.*head.0",
        ),
        (TuningOptions(freeze=("*",)), "leaves nothing to train; freeze fewer"),
    ],
)
def test_patterns_that_match_nothing_or_everything_are_refused(options: TuningOptions, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        tune(Net(), options, seed=0)


@pytest.mark.parametrize("bad", [{"frozen_precision": "float16"}, {"optimizer_bits": 4}])
def test_tunings_that_cannot_work_are_refused(bad: dict) -> None:
    with pytest.raises(OptionError):
        TuningOptions(**bad)


@pytest.mark.parametrize("bad", [{"rank": -1}, {"rank": 4, "scale": 0.0}])
def test_adapters_that_cannot_work_are_refused(bad: dict) -> None:
    with pytest.raises(OptionError):
        AdapterOptions(layers="backbone.*", **bad)


def test_only_adapters_and_what_is_left_are_trained_averaged_and_in_snapshots(tmp_path: Path) -> None:
    net, tuning = Net(), TuningOptions(freeze=("tower.*",), adapt=(AdapterOptions(layers="head.0", rank=2),))
    weight = net.head[0].weight.detach().clone()
    summary = trained(net, tmp_path, tuning)
    adapters = {"head.0.adapter_in", "head.0.adapter_out"}
    trained_names = adapters | {"head.2.weight", "head.2.bias"}
    for kind in ("weight", "average", "optimizer.exp_avg"):
        prefix = f"{kind}."
        assert {name.removeprefix(prefix) for name in snapshot(tmp_path) if name.startswith(prefix)} == trained_names
    assert summary.num_parameters == 2 * 16 + 8 * 2 + 8 + 1
    assert torch.equal(net.head[0].weight, weight)


def test_a_rank_of_zero_takes_layers_out_of_an_earlier_pattern() -> None:
    net = Net()
    tune(net, TuningOptions(adapt=(AdapterOptions(layers="*", rank=2), AdapterOptions(layers="head.2", rank=0))), seed=0)
    assert {name for name, _ in net.named_parameters() if "adapter_in" in name} == {
        "tower.0.adapter_in",
        "head.0.adapter_in",
    }
    assert net.head[2].weight.requires_grad


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_tuned_training_killed_in_between_ends_in_the_same_bits(tmp_path: Path, precision: str) -> None:
    options = replace(OPTIONS, precision=precision)
    tuning = TuningOptions(
        freeze=("tower.*",),
        adapt=(AdapterOptions(layers="head.*", rank=2),),
        frozen_precision=precision,
    )
    straight, killed, resumed = Net(), Net(), Net()
    summary = trained(straight, tmp_path / "straight", tuning, options=options)
    with pytest.raises(KeyboardInterrupt):
        trained(killed, tmp_path / "killed", tuning, options=options, stop_at=5)
    assert trained(resumed, tmp_path / "killed", tuning, options=options) == summary
    for name, tensor in straight.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_snapshot_of_another_tuning_is_refused(tmp_path: Path) -> None:
    one, other = (TuningOptions(adapt=(AdapterOptions(layers="head.*", rank=2, scale=scale),)) for scale in (1.0, 2.0))
    trained(Net(), tmp_path, one)
    with pytest.raises(TrainingError, match=r"other settings: tuning\.adapt is"):
        trained(Net(), tmp_path, other)


def test_a_settled_model_is_plain_float32_and_trains_everything_again() -> None:
    net, tuning = Net(), replace(LORA, freeze=("tower.*",), adapt=(AdapterOptions(layers="head.*", rank=2),))
    names = set(net.state_dict())
    tune(net, replace(tuning, frozen_precision=BFLOAT16), seed=0)
    assert net.tower[0].weight.dtype == net.head[0].weight.dtype == torch.bfloat16
    assert net.tower[0].bias.dtype == net.tower[1].weight.dtype == net.head[0].adapter_in.dtype == torch.float32
    settle(net)
    assert set(net.state_dict()) == names
    assert all(parameter.dtype == torch.float32 and parameter.requires_grad for parameter in net.parameters())


@pytest.mark.parametrize("config", [nano_like(), pi05_like()], ids=["nano", "pi05"])
def test_frozen_bfloat16_matrices_multiply_under_autocast_as_float32_ones_do(config) -> None:
    tuning = replace(LORA, freeze=("vision.*",), frozen_precision=BFLOAT16)
    found = []
    for options in (replace(tuning, frozen_precision="float32"), tuning):
        vla = model(config)
        tune(vla, options, seed=0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found.append(vla.prefix(prefix_inputs(config, batch())).stream_BTW)
    assert found[0].dtype == found[1].dtype == torch.float32
    assert torch.equal(*found)


def test_bfloat16_weights_need_a_forward_pass_in_bfloat16(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="frozen_precision is 'bfloat16', but the forward pass is in 'float32'"):
        trained(Net(), tmp_path, TuningOptions(freeze=("tower.*",), frozen_precision=BFLOAT16))
