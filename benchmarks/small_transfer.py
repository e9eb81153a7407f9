"""What the pre-trained parts of `small` are worth on a robot: held-out flow loss from them and from random weights.

Both arms are the same model with the same data, schedule, batches and noise; only the weights they start from differ. The
parts come from `opentau parts`; the demonstrations are a LeRobot dataset (--data), or are recorded: task 0 of LIBERO object.
Every training that is done stays in --work, and the same command goes on; --only trains one arm of one seed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from opentau.checkpoint import write_json
from opentau.data.batches import BatchSource
from opentau.data.frames import FrameTable, episodes_held_out
from opentau.data.lerobot.dataset import Dataset
from opentau.policies.small import Weights, small
from opentau.policies.weights import load_model
from opentau.study.statistics import Interval, student_interval
from opentau.training.objectives import PolicyObjective
from opentau.training.options import AUTO, PRECISIONS, ObjectiveOptions, TrainOptions
from opentau.training.policy import PolicyData, PolicyTraining, train_policy
from opentau.types import Interface, content_hash, derive_seed

ARMS = tuple(weights.value for weights in Weights)
HELD_OUT_SHARE, NUM_MEASURED, MEASURED_BATCH, MEASURED_DRAWS = 0.25, 128, 32, 4
"""Of the episodes; frames of those, noise draws of each."""
NUM_DRAWS, NUM_WARMUP = 2, 30
Results = dict[int, dict[str, dict[str, Any]]]
"""What was measured, by seed and arm."""
SETTINGS = ("updates", "batch_size", "learning_rate", "depth", "image_size", "precision")


def demonstrations(work: Path, *, image_size: int, count: int) -> Path:
    """Record scripted demonstrations, or find those of an earlier call."""
    options = ["env=libero/object", "task_id=0", f"data.demonstrations={count}", f"env.args.image_size={image_size}"]
    command = [sys.executable, "-P", "-m", "opentau.cli.main", "demonstrate", *options, "--json"]
    environment = os.environ | {"OPENTAU_RUNS": str(work / "runs"), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return Path(json.loads(done.stdout.strip().splitlines()[-1])["path"])


def arm_of(
    weights: str, seed: int, *, table: FrameTable, interface: Interface, settings: dict[str, Any], work: Path
) -> dict[str, float | None]:
    """Train one arm of one seed and return its losses and cost; go on where an earlier call was stopped."""
    start = small(
        cameras=tuple(sorted(table.images)),
        state_dim=interface.state_dim,
        action_dim=interface.action_dim,
        image_size=settings["image_size"],
        depth=settings["depth"],
        weights=weights,
    )
    training = PolicyTraining(
        options=TrainOptions(
            num_updates=settings["updates"],
            batch_size=settings["batch_size"],
            learning_rate=settings["learning_rate"],
            num_warmup_updates=NUM_WARMUP,
            precision=settings["precision"],
            num_threads=1,
            evaluation_interval=settings["updates"],
            log_interval=max(1, settings["updates"] // 10),
        ),
        objective=ObjectiveOptions(num_noise_draws=NUM_DRAWS),
        held_out_share=HELD_OUT_SHARE,
    )
    steps: list[float] = []
    summary = train_policy(
        PolicyData(table=table, interface=interface),
        start=start,
        training=training,
        seed=seed,
        directory=work / "policy",
        work_dir=work / "snapshots",
        between_updates=lambda: steps.append(time.process_time()),
    )
    return {
        "held_out_loss": held_out_loss(work / "policy", table),
        "train_loss": summary.metrics["train/flow"],
        # None where an earlier call did nearly all of them.
        "update_cpu_s": statistics.median(np.diff(steps)) if len(steps) > 1 else None,
    }


@torch.no_grad()
def held_out_loss(policy: Path, table: FrameTable) -> float:
    """Return the flow loss on frames evenly drawn of held-out episodes, under noise that is the same for every policy."""
    model, processor = load_model(policy)
    objective = PolicyObjective(model.eval(), processor=processor, options=ObjectiveOptions(num_noise_draws=MEASURED_DRAWS))
    held_out = np.flatnonzero(episodes_held_out(table, share=HELD_OUT_SHARE))
    frames = held_out[np.linspace(0, len(held_out) - 1, min(NUM_MEASURED, len(held_out))).round().astype(int)]
    source = BatchSource(
        table, codec=processor.codec, horizon=processor.config.action_horizon, batch_size=MEASURED_BATCH, seed=0,
        action_limit=PolicyTraining(options=TrainOptions()).action_limit,
    )  # fmt: skip
    losses = []
    for number, first in enumerate(range(0, len(frames), MEASURED_BATCH)):
        rows = frames[first : first + MEASURED_BATCH]
        torch.manual_seed(derive_seed(0, "held out", number))
        losses.append(float(objective(source.batch_of(rows, np.random.default_rng(0)))[0]) * len(rows))
    return sum(losses) / len(frames)


def results(parsed: argparse.Namespace) -> Results:
    """Return what is known of every seed and arm, after whatever was missing has been trained."""
    parsed.work.mkdir(parents=True, exist_ok=True)
    data = parsed.data or demonstrations(parsed.work, image_size=parsed.image_size, count=parsed.demonstrations)
    dataset = Dataset(data)
    settings = {name: getattr(parsed, name) for name in SETTINGS}
    identity = settings | {"data": dataset.dataset_id}
    wanted = [tuple(parsed.only.split(":"))] if parsed.only else [(str(s), arm) for s in range(parsed.seeds) for arm in ARMS]
    table, found = None, Results()
    for seed, arm in wanted:
        path = parsed.work / f"{arm}-{seed}.json"
        kept = json.loads(path.read_text()) if path.is_file() else None
        if kept is not None and kept["settings"] != identity:
            raise SystemExit(f"{path} is of other options or data: {kept['settings']}; name another --work, or delete it")
        if kept is None:
            print(f"training from {arm}, seed {seed}", file=sys.stderr)
            if table is None:
                table = FrameTable.from_datasets([dataset], image_size=parsed.image_size)
            folder = parsed.work / f"{arm}-{seed}-{content_hash(identity)[:8]}"
            measured = arm_of(arm, int(seed), table=table, interface=dataset.interface, settings=settings, work=folder)
            kept = {"settings": identity, "measured": measured}
            write_json(path, kept)
            shutil.rmtree(folder)
        found.setdefault(int(seed), {})[arm] = kept["measured"]
    return found


def main(arguments: list[str] | None = None) -> int:
    """Train what is missing, then print the table; with --require, 1 unless every seed is better from the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of results; the same one goes on")
    parser.add_argument("--data", type=Path, help="folder of a LeRobot dataset; recorded if not given")
    parser.add_argument("--demonstrations", type=int, default=12, help="how many are recorded, a quarter of them held out")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", metavar="SEED:ARM", help=f"train this one alone, for example 0:{ARMS[0]}")
    parser.add_argument("--updates", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--depth", type=int, default=8, help="layers of SmolLM2")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--precision", choices=PRECISIONS, default=AUTO)
    parser.add_argument("--json", action="store_true", help="print one line of figures")
    parser.add_argument("--require", action="store_true", help="fail unless every seed is better from the parts")
    parsed = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found = results(parsed)
    whole = {seed: arms for seed, arms in found.items() if len(arms) == len(ARMS)}
    differences = [arms[Weights.PARTS]["held_out_loss"] - arms[Weights.RANDOM]["held_out_loss"] for arms in whole.values()]
    interval = student_interval(differences)
    if parsed.json:
        print(
            json.dumps({"results": found, "differences": differences, "interval": interval and [interval.low, interval.high]})
        )
    else:
        print_table(found, interval)
    is_better = len(differences) == parsed.seeds and max(differences) < 0
    return 1 if parsed.require and not is_better else 0


def print_table(found: Results, interval: Interval | None) -> None:
    """Print held-out flow losses by seed and their difference."""
    print(f"{'seed':<6}{'from parts':>12}{'random':>12}{'difference':>12}{'CPU-s an update':>20}")
    for seed, arms in sorted(found.items()):
        losses = [arms[arm]["held_out_loss"] if arm in arms else float("nan") for arm in ARMS]
        known = [f"{arm['update_cpu_s']:.2f}" for arm in arms.values() if arm["update_cpu_s"] is not None]
        print(f"{seed:<6}{losses[0]:>12.4f}{losses[1]:>12.4f}{losses[0] - losses[1]:>+12.4f}{', '.join(known):>20}")
    if interval:
        print(f"difference over seeds: 95 % t interval {interval.low:+.4f} to {interval.high:+.4f}")


if __name__ == "__main__":
    sys.exit(main())
