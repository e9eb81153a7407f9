"""A small training as one of several processes: `torchrun … worker.py FOLDER` does what FOLDER/job.json says."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from opentau.data.batches import Batch
from opentau.data.fitting import PolicySizes, fitted, joined
from opentau.data.vlm.samples import QuestionSource, VisualSample
from opentau.errors import OpenTauError
from opentau.events import EventLog
from opentau.training.distribution import World
from opentau.training.distribution import joined as joined_world
from opentau.training.objectives import PolicyObjective
from opentau.training.options import DistributionOptions, ObjectiveOptions, TrainOptions
from opentau.training.trainer import TrainReport, TrainSummary, train
from tests.unit.policies.parts import ACTION_DIM, CAMERAS, HORIZON, SIZE, STATE_DIM, batch, model, nano_like, processor

JOB_FILE = "job.json"
WEIGHTS_FILE = "weights.safetensors"
NUM_ACTING = 5
SIZES = PolicySizes(cameras=CAMERAS, image_size=SIZE, state_dim=STATE_DIM, action_dim=ACTION_DIM, action_horizon=HORIZON)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the processes of a test are to do."""

    distribution: DistributionOptions = field(default_factory=DistributionOptions)
    work: str
    """Folder of snapshots."""
    num_updates: int = 10
    snapshot_interval: int = 4
    kill_rank: int | None = None
    """This process kills itself…"""
    kill_at: int = 0
    """…before this update."""

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / JOB_FILE).write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> Job:
        plain = json.loads((folder / JOB_FILE).read_text())
        return cls(**{**plain, "distribution": DistributionOptions(**plain["distribution"])})


def batch_of(update: int) -> Batch:
    """Five samples that act, some padded and weighted, and three questions at the end; every third batch has no question."""
    acting = fitted(batch(NUM_ACTING, seed=update, num_padded=2), SIZES, part=0)
    acting = replace(acting, weight=np.linspace(0.5, 1.5, NUM_ACTING, dtype=np.float32))
    if update % 3 == 2:
        return acting
    samples = [
        VisualSample(
            sample_id=str(number),
            group="",
            kind="",
            prompt="what is on the table?",
            answer=" ".join(["milk"] * number),
            images={"agentview": _picture(update, number)},
        )
        for number in (1, 2, 3)
    ]
    spoken = QuestionSource(samples, sizes=SIZES).batch_of(np.arange(3), np.random.default_rng(update))
    return joined([acting, fitted(spoken, SIZES, part=1)])


def _picture(update: int, number: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng((update, number)).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def run(folder: Path, job: Job, *, world: World) -> TrainSummary:
    """Train, and leave events, facts about each process's memory, and the weights in the folder."""
    config = nano_like()
    vla = model(config)
    objective = PolicyObjective(vla, processor=processor(config), options=ObjectiveOptions(fast_weight=0.5, text_weight=0.5))
    updates = 0

    def between_updates() -> None:
        nonlocal updates
        if not updates:
            _note_memory(folder, vla, world=world)
        if world.rank == job.kill_rank and updates == job.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        updates += 1

    def evaluate() -> dict[str, float]:
        return {"train/held_out": float(objective(batch_of(100))[0])}

    with EventLog(folder, f"rank-{world.rank}") as log:
        summary = train(
            vla,
            loss=lambda update, piece: objective(batch_of(update), piece),
            options=TrainOptions(
                num_updates=job.num_updates,
                batch_size=8,
                learning_rate=3e-3,
                num_warmup_updates=2,
                log_interval=1,
                evaluation_interval=5,
                snapshot_interval=job.snapshot_interval,
                num_threads=1,
                learning_rate_multipliers={"*indicator*": 10.0},
            ),
            seed=5,
            work_dir=Path(job.work),
            report=TrainReport(events=log, stage="sft-0"),
            evaluate=evaluate,
            between_updates=between_updates,
            world=world,
            distribution=job.distribution,
        )
    if world.is_first:
        save_file({name: tensor.contiguous() for name, tensor in vla.state_dict().items()}, folder / WEIGHTS_FILE)
    return summary


def _note_memory(folder: Path, vla: torch.nn.Module, *, world: World) -> None:
    parameters = list(vla.parameters())
    held = [p.to_local() if isinstance(p, DTensor) else p for p in parameters]
    facts = {
        "are_sharded": all(isinstance(p, DTensor) for p in parameters),
        "bytes": sum(p.numel() * p.element_size() for p in parameters),
        "held_bytes": sum(p.numel() * p.element_size() for p in held),
        "storage_bytes": sum(p.untyped_storage().nbytes() for p in held),
    }
    (folder / f"memory-{world.rank}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    try:
        with joined_world("test") as world:
            run(Path(sys.argv[1]), Job.read(Path(sys.argv[1])), world=world)
    except OpenTauError as error:
        sys.exit(f"{type(error).__name__}: {error}")
