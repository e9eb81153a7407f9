"""What several processes rely on: pieces that add up to the whole, rows that find their place, options that can work."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from opentau.errors import OptionError
from opentau.loop.placement import PlacementOptions, serving_device
from opentau.training.distribution import ALONE, WHOLE, Piece, Share, joined, training_device
from opentau.training.objectives import PolicyObjective
from opentau.training.options import DistributionOptions, ObjectiveOptions
from opentau.training.snapshot import SHARD_FILE, StoredTensors, restore
from tests.distributed.worker import batch_of
from tests.unit.policies.parts import model, nano_like, processor


@pytest.mark.parametrize(("num_samples", "count"), [(8, 2), (7, 3), (64, 1), (5, 5)])
def test_pieces_are_all_samples_once_and_almost_equal(num_samples: int, count: int) -> None:
    samples = range(num_samples)
    pieces = [samples[Piece(index=index, count=count).rows(num_samples)] for index in range(count)]
    assert [sample for piece in pieces for sample in piece] == list(samples)
    assert max(map(len, pieces)) - min(map(len, pieces)) <= 1


@pytest.mark.parametrize("update", [0, 2], ids=["with questions", "without"])
@pytest.mark.parametrize("options", [{}, {"fast_weight": 0.5}, {"fast_weight": 0.5, "is_insulated": True}])
def test_the_pieces_of_a_batch_add_up_to_its_loss_and_gradients(update: int, options: dict) -> None:
    config = nano_like(max_committed=2)
    objective = PolicyObjective(model(config), processor=processor(config), options=ObjectiveOptions(**options))

    def pass_over(pieces: list[Piece]) -> tuple[dict[str, float], dict[str, Tensor]]:
        objective.model.zero_grad(set_to_none=True)
        totals: dict[str, float] = {}
        for piece in pieces:
            torch.manual_seed(3)
            loss, parts = objective(batch_of(update), piece)
            loss.backward()
            for name, part in {"loss": loss, **parts}.items():
                totals[name] = totals.get(name, 0.0) + part.item()
        return totals, {name: p.grad for name, p in objective.model.named_parameters() if p.grad is not None}

    wanted, wanted_gradients = pass_over([WHOLE])
    assert wanted.keys() == {"loss", "train/flow"} | ({"train/fast"} if options else set()) | (
        set() if update == 2 else {"train/text"}
    )
    # Five samples act and three ask: of four pieces the first two ask nothing, and the last does nothing but ask.
    found, gradients = pass_over([Piece(index=index, count=4) for index in range(4)])
    assert found == pytest.approx(wanted, rel=1e-5)
    assert gradients.keys() == wanted_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, wanted_gradients[name], rtol=1e-4, atol=1e-5, msg=name)


def test_accumulated_gradients_are_those_of_the_batch() -> None:
    torch.manual_seed(0)
    net, x_BI = nn.Linear(3, 1), torch.randn(10, 3)

    def loss(update: int, piece: Piece) -> tuple[Tensor, dict[str, Tensor]]:
        error = net(x_BI[piece.rows(10)]).square().sum() / 10
        return error, {"double": 2 * error.detach()}

    found = {}
    for accumulation in (1, 3):
        net.zero_grad()
        share = Share(net, loss, world=ALONE, options=DistributionOptions(accumulation=accumulation))
        values = share.backward(0)
        found[accumulation] = [values["loss"], values["double"] / 2, *net.weight.grad.flatten().tolist()]
    assert found[3] == pytest.approx(found[1], rel=1e-5)


def test_rows_of_several_files_are_one_tensor_in_the_order_of_the_processes(tmp_path: Path) -> None:
    whole = torch.arange(10.0).reshape(5, 2)
    for rank, rows in enumerate((slice(0, 2), slice(2, 4), slice(4, 5))):
        tensors = {"weight": whole[rows].contiguous()} | ({"step": torch.tensor(7.0)} if rank == 0 else {})
        save_file(tensors, tmp_path / SHARD_FILE.format(rank=rank, size=3))
    own = {"weight": torch.zeros(5, 2), "step": torch.zeros(())}
    stored = StoredTensors(tmp_path)
    restore(own, stored=stored)
    assert stored.keys() == own.keys()
    assert torch.equal(own["weight"], whole)
    assert own["step"] == 7


def test_a_process_that_torchrun_did_not_start_is_alone() -> None:
    with joined("test") as world:
        assert world == ALONE
        assert world.is_first
        assert world.summed({"loss": 2.0}) == {"loss": 2.0}


def test_processes_take_the_devices_that_are_named_and_others_are_refused() -> None:
    assert training_device(["cpu", "cpu"], local_rank=1) == "cpu"
    with pytest.raises(
        OptionError, match=r"more than 2 processes .* placement.train names 2 devices; give it --nproc-per-node 2"
    ):
        training_device(["cpu", "cpu"], local_rank=2)
    with joined("test", devices=["cpu"]) as world:
        assert world == ALONE


@pytest.mark.skipif(torch.cuda.is_available(), reason="names GPUs that are not there")
def test_gpus_that_are_not_there_are_refused() -> None:
    assert training_device([], local_rank=3) == "cpu"
    with pytest.raises(OptionError, match=r"placement.train names 'cuda:1', this machine has 0 GPUs"):
        training_device(["cuda:1"], local_rank=0)
    assert serving_device(PlacementOptions()) == "cpu"
    with pytest.raises(OptionError, match=r"placement.serve is 'cuda', this machine has 0 GPUs"):
        serving_device(PlacementOptions(serve="cuda"))


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cpu:1"])
def test_devices_have_names_that_torch_knows(device: str) -> None:
    with pytest.raises(OptionError, match=r"placement.serve names .*; use cpu, cuda or cuda:N"):
        PlacementOptions(serve=device)
    with pytest.raises(OptionError, match=r"placement.train names 'auto'"):
        PlacementOptions(train=("auto",))


def test_more_pieces_than_samples_are_refused() -> None:
    with pytest.raises(OptionError, match=r"batch_size is 2, fewer than the 3 pieces .* accumulation=3"):
        Share(nn.Linear(1, 1), lambda *_: None, world=ALONE, options=DistributionOptions(accumulation=3), num_samples=2)


@pytest.mark.parametrize(
    ("bad", "words"), [({"strategy": "fdsp"}, "Did you mean 'fsdp'"), ({"accumulation": 0}, "must be at least 1")]
)
def test_distributions_that_cannot_work_are_refused(bad: dict, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        DistributionOptions(**bad)
