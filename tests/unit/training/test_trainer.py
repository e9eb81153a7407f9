"""The trainer learns, resumes to the bit, and stops with a sentence when it cannot go on."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from opentau import events
from opentau.errors import CheckpointError, OptionError, TrainingError
from opentau.events import EventLog, EventReader
from opentau.training.distribution import Piece
from opentau.training.optimizer import build_optimizer
from opentau.training.options import TrainOptions
from opentau.training.snapshot import TENSORS_FILE, newest_snapshot
from opentau.training.trainer import TrainReport, TrainSummary, train

OPTIONS = TrainOptions(
    num_updates=30,
    learning_rate=1e-2,
    num_warmup_updates=3,
    snapshot_interval=7,
    log_interval=4,
    evaluation_interval=10,
    learning_rate_multipliers={"*indicator*": 10.0},
)


class Net(nn.Module):
    """A regression with dropout, a normalisation with running buffers, and an indicator."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.body = nn.Sequential(nn.Linear(3, 16), nn.BatchNorm1d(16), nn.GELU(), nn.Dropout(0.2), nn.Linear(16, 1))
        self.indicator = nn.Embedding(2, 1)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)

    def forward(self, x_BI: Tensor) -> Tensor:
        return self.body(x_BI) + self.indicator((x_BI[:, 0] > 0).long())


class Killed(BaseException):
    """Stands for a SIGKILL: nothing catches it."""


def loss_of(net: Net, *, kill_at: int | None = None):
    def loss(update: int, piece: Piece) -> tuple[Tensor, dict[str, Tensor]]:
        if update == kill_at:
            raise Killed
        x_BI = torch.randn(32, 3)[piece.rows(32)]
        error = nn.functional.mse_loss(net(x_BI)[:, 0], x_BI.sum(dim=1)) * (len(x_BI) / 32)
        return error, {"half": error.detach() / 2}

    return loss


def run(
    work_dir: Path, *, kill_at: int | None = None, options: TrainOptions = OPTIONS, seed: int = 3
) -> tuple[Net, TrainSummary]:
    net = Net()

    def evaluate() -> dict[str, float]:
        return {"train/heldout_loss": nn.functional.mse_loss(net(torch.randn(64, 3)), torch.zeros(64, 1)).item()}

    summary = train(net, loss=loss_of(net, kill_at=kill_at), options=options, seed=seed, work_dir=work_dir, evaluate=evaluate)
    return net, summary


def last_tensors(work_dir: Path) -> dict[str, Tensor]:
    [folder] = work_dir.glob("update-*")
    identity = json.loads((folder / "numbers.json").read_text())["identity"]
    snapshot = newest_snapshot(work_dir, identity=identity)
    assert snapshot is not None
    return dict(snapshot.tensors)


@pytest.mark.parametrize("options", [OPTIONS, replace(OPTIONS, precision="bfloat16")], ids=["float32", "bfloat16"])
def test_a_training_killed_at_arbitrary_updates_ends_in_the_same_bits(tmp_path: Path, options: TrainOptions) -> None:
    straight, summary = run(tmp_path / "straight", options=options)
    for kill_at in (2, 9, 9, 21, 29):
        with pytest.raises(Killed):
            run(tmp_path / "killed", kill_at=kill_at, options=options)
    resumed, resumed_summary = run(tmp_path / "killed", options=options)

    for name, tensor in straight.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    wanted, found = last_tensors(tmp_path / "straight"), last_tensors(tmp_path / "killed")
    assert wanted.keys() == found.keys()
    assert {name.split(".")[0] for name in wanted} == {"weight", "buffer", "average", "optimizer"}
    for name in wanted:
        assert torch.equal(wanted[name], found[name]), name
    assert summary == resumed_summary


def test_automatic_precision_is_one_of_the_two_and_gives_its_bits(tmp_path: Path) -> None:
    automatic, summary = run(tmp_path / "auto", options=replace(OPTIONS, precision="auto"))
    assert summary.precision in ("float32", "bfloat16")
    explicit, _ = run(tmp_path / "explicit", options=replace(OPTIONS, precision=summary.precision))
    assert all(torch.equal(a, b) for a, b in zip(automatic.parameters(), explicit.parameters(), strict=True))


def test_a_finished_training_called_again_returns_the_same_without_an_update(tmp_path: Path) -> None:
    first, summary = run(tmp_path)
    again, summary_again = run(tmp_path, kill_at=0)
    assert summary == summary_again
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def test_seeds_and_updates_differ_in_their_draws(tmp_path: Path) -> None:
    one, _ = run(tmp_path / "one")
    other, _ = run(tmp_path / "other", seed=4)
    assert not torch.equal(one.body[0].weight, other.body[0].weight)


def test_the_global_generator_and_the_thread_count_are_left_as_they_were(tmp_path: Path) -> None:
    net, threads = Net(), torch.get_num_threads()
    torch.manual_seed(11)
    wanted = torch.rand(3)
    torch.manual_seed(11)
    options = replace(OPTIONS, num_threads=2, num_updates=2)
    summary = train(net, loss=loss_of(net), options=options, seed=3, work_dir=tmp_path)
    assert torch.equal(torch.rand(3), wanted)
    assert torch.get_num_threads() == threads
    assert summary.num_threads == 2


def test_it_learns_and_its_averaged_weights_are_left_in_the_model(tmp_path: Path) -> None:
    net, summary = run(tmp_path, options=replace(OPTIONS, num_updates=300, learning_rate=3e-2, snapshot_interval=300))
    assert summary.metrics["train/loss"] < 0.4
    assert not net.training
    tensors = last_tensors(tmp_path)
    assert torch.equal(net.body[0].weight, tensors["average.body.0.weight"])
    assert not torch.equal(net.body[0].weight, tensors["weight.body.0.weight"])
    assert summary.metrics["train/heldout_loss"] > 0


def test_a_loss_that_is_not_finite_stops_and_names_the_update(tmp_path: Path) -> None:
    net = Net()

    def loss(update: int, piece: Piece) -> tuple[Tensor, dict[str, Tensor]]:
        error, parts = loss_of(net)(update, piece)
        return (error * float("nan") if update == 5 else error), parts

    with pytest.raises(TrainingError, match=r"loss of update 5 is not finite \(loss nan, half"):
        train(net, loss=loss, options=OPTIONS, seed=0, work_dir=tmp_path)


def test_a_gradient_that_is_not_finite_stops_before_the_weights_are_touched(tmp_path: Path) -> None:
    net = Net()

    def loss(update: int, piece: Piece) -> tuple[Tensor, dict[str, Tensor]]:
        return (net.body[0].weight * 0).abs().pow(0.5).sum(), {}

    with pytest.raises(TrainingError, match="gradient of update 0"):
        train(net, loss=loss, options=OPTIONS, seed=0, work_dir=tmp_path)
    assert all(torch.isfinite(parameter).all() for parameter in net.parameters())


def test_a_snapshot_of_other_settings_is_refused_and_says_what_differs(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path, kill_at=15)
    with pytest.raises(TrainingError, match=r"learning_rate is 0\.5, there it was 0\.01"):
        run(tmp_path, options=replace(OPTIONS, learning_rate=0.5))
    with pytest.raises(TrainingError, match="seed is 4, there it was 3"):
        run(tmp_path, seed=4)


def test_a_damaged_snapshot_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path, kill_at=15)
    [folder] = tmp_path.glob("update-*")
    with open(folder / TENSORS_FILE, "r+b") as file:
        file.truncate(100)
    with pytest.raises(CheckpointError, match="damaged"):
        run(tmp_path)


def test_a_snapshot_half_written_is_ignored(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path, kill_at=15)
    torn = tmp_path / "update-00000021.partial"
    torn.mkdir()
    (torn / TENSORS_FILE).write_bytes(b"half")
    _, summary = run(tmp_path)
    assert summary.num_updates == 30
    assert [path.name for path in tmp_path.iterdir()] == ["update-00000030"]


def test_parameter_groups_follow_names_and_shapes() -> None:
    net = Net()
    optimizer = build_optimizer(dict(net.named_parameters()), OPTIONS)
    found = {id(p): (group["multiplier"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    assert found[id(net.indicator.weight)] == (10.0, OPTIONS.weight_decay)
    assert found[id(net.body[0].weight)] == (1.0, OPTIONS.weight_decay)
    assert found[id(net.body[0].bias)] == (1.0, 0.0)
    with pytest.raises(OptionError, match=r"no parameter matches '\*indicatr\*'"):
        build_optimizer(dict(net.named_parameters()), replace(OPTIONS, learning_rate_multipliers={"*indicatr*": 10.0}))


def test_a_multiplied_group_moves_by_as_much_more(tmp_path: Path) -> None:
    moved = {}
    for factor in (1.0, 10.0):
        net = Net()
        before = net.indicator.weight.detach().clone()
        options = TrainOptions(num_updates=1, ema_decay=0.0, weight_decay=0.0, learning_rate_multipliers={"indicator*": factor})
        train(net, loss=loss_of(net), options=options, seed=0, work_dir=tmp_path / str(factor))
        moved[factor] = (net.indicator.weight.detach() - before).abs().max().item()
    assert moved[10.0] == pytest.approx(10 * moved[1.0], rel=1e-3)


def test_frozen_parameters_stay(tmp_path: Path) -> None:
    net = Net()
    net.body[0].requires_grad_(False)
    before = net.body[0].weight.clone()
    train(net, loss=loss_of(net), options=OPTIONS, seed=0, work_dir=tmp_path)
    assert torch.equal(net.body[0].weight, before)


def test_the_learning_rate_warms_up_and_decays_to_its_share() -> None:
    rates = [OPTIONS.learning_rate_at(update) for update in range(30)]
    assert rates[0] < rates[1] < rates[2] < rates[3]
    assert all(later < earlier for earlier, later in pairwise(rates[4:]))
    assert OPTIONS.learning_rate_at(30) == pytest.approx(0.05 * OPTIONS.learning_rate)


def test_metrics_and_progress_are_reported_with_stage_and_iteration(tmp_path: Path) -> None:
    net = Net()
    with EventLog(tmp_path, "test") as log:
        report = TrainReport(events=log, stage="update-2")
        train(net, loss=loss_of(net), options=OPTIONS, seed=0, work_dir=tmp_path / "work", report=report)
    emitted = EventReader(tmp_path).read_new()
    metrics = [event for event in emitted if event["kind"] == events.TRAIN_METRICS]
    progress = [event for event in emitted if event["kind"] == events.STAGE_PROGRESS]
    assert set(metrics[0]["metrics"]) == {"train/loss", "train/half", "train/gradient_norm", "train/learning_rate"}
    assert [event["update"] for event in metrics] == [4, 8, 12, 16, 20, 24, 28, 30]
    wanted = {"stage": "update-2", "iteration": 2, "done": 30, "total": 30, "unit": "updates"}
    assert {name: progress[-1][name] for name in wanted} == wanted


def test_between_updates_may_stop_and_nothing_but_the_last_updates_is_lost(tmp_path: Path) -> None:
    net, calls = Net(), []

    def stop_at_ten() -> None:
        calls.append(len(calls))
        if len(calls) == 10:
            raise Killed

    with pytest.raises(Killed):
        train(net, loss=loss_of(net), options=OPTIONS, seed=3, work_dir=tmp_path, between_updates=stop_at_ten)
    assert [path.name for path in tmp_path.iterdir()] == ["update-00000007"]


@pytest.mark.parametrize("bad", [{"num_updates": 0}, {"precision": "float8"}, {"ema_decay": 1.0}])
def test_options_that_cannot_work_are_refused(bad: dict) -> None:
    with pytest.raises(OptionError):
        TrainOptions(**bad)
