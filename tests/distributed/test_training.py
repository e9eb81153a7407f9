"""Two ranks train as one process does, under DDP and FSDP2, and one process goes on from what two left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from opentau.events import TRAIN_METRICS, EventReader
from opentau.training.distribution import ALONE
from opentau.training.options import DDP, FSDP, DistributionOptions
from tests.distributed.launching import torchrun, two_ranks, wait
from tests.distributed.worker import WEIGHTS_FILE, Job, run

pytestmark = pytest.mark.dist

WORKER = str(Path(__file__).with_name("worker.py"))
FIRST_TOLERANCE, TOLERANCE = 1e-5, 1e-3
"""Of every reported number, relative: before any weight has moved, and later. Adam moves a weight whose gradient is nothing but
rounding by a whole step, so that sums in another order differ by up to 2e-4 after an update, in one process too."""
WEIGHT_TOLERANCE = 5e-3
"""Of every weight tensor's norm; such a step is 1e-3 of the smallest."""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training in one process."""
    folder = tmp_path_factory.mktemp("alone")
    run(folder, Job(work=str(folder / "work")), world=ALONE)
    return folder


def curve(folder: Path, *, stage: str = "sft-0") -> dict[tuple[int, str], float]:
    """Return every metric that a stage reported by update and name; of what was done twice, what was done last."""
    events = [event for event in EventReader(folder).read_new() if event["kind"] == TRAIN_METRICS and event["stage"] == stage]
    return {(event["update"], name): value for event in events for name, value in event["metrics"].items()}


def require_same_training(found: Path, wanted: Path) -> None:
    numbers, wanted_numbers = curve(found), curve(wanted)
    assert numbers == pytest.approx(wanted_numbers, rel=TOLERANCE)
    first = {key: value for key, value in wanted_numbers.items() if key[0] == 1}
    assert {key: numbers[key] for key in first} == pytest.approx(first, rel=FIRST_TOLERANCE)
    weights = load_file(found / WEIGHTS_FILE)
    for name, tensor in load_file(wanted / WEIGHTS_FILE).items():
        assert (weights[name] - tensor).norm() <= WEIGHT_TOLERANCE * tensor.norm(), name


def memory(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"memory-{rank}.json").read_text()) for rank in range(2)]


def train_on_two(folder: Path, job: Job) -> int:
    """Run a job on two ranks and return torchrun's exit code."""
    job.write(folder)
    return wait([torchrun(two_ranks([WORKER, str(folder)]), log=folder / "log.txt")])[0]


@pytest.mark.parametrize(("strategy", "accumulation"), [(DDP, 2), (FSDP, 2)])
def test_two_ranks_have_the_loss_curve_of_one_process(alone: Path, tmp_path: Path, strategy: str, accumulation: int) -> None:
    distribution = DistributionOptions(strategy=strategy, accumulation=accumulation)
    assert train_on_two(tmp_path, Job(work=str(tmp_path / "work"), distribution=distribution)) == 0, _log(tmp_path)
    require_same_training(tmp_path, alone)
    share = 0.5 if strategy == FSDP else 1.0
    for facts in memory(tmp_path):
        assert facts["are_sharded"] == (strategy == FSDP)
        assert facts["held_bytes"] == pytest.approx(share * facts["bytes"], rel=0.02)
        assert facts["storage_bytes"] == pytest.approx(share * facts["bytes"], rel=0.02)


def test_a_rank_that_is_killed_ends_the_training_and_one_process_finishes_it(alone: Path, tmp_path: Path) -> None:
    work = str(tmp_path / "work")
    sharded = Job(work=work, distribution=DistributionOptions(strategy=FSDP), kill_rank=1, kill_at=6)
    assert train_on_two(tmp_path, sharded) == 1
    assert "Signal 9 (SIGKILL)" in _log(tmp_path)
    [snapshot] = (tmp_path / "work").glob("update-*[0-9]")
    names = sorted(path.name for path in snapshot.glob("tensors*"))
    assert names == ["tensors-00000-of-00002.safetensors", "tensors-00001-of-00002.safetensors"]
    run(tmp_path, Job(work=work), world=ALONE)
    require_same_training(tmp_path, alone)


def _log(folder: Path) -> str:
    return (folder / "log.txt").read_text()[-5000:]
