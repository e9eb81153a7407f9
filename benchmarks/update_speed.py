"""CPU seconds of one update of `nano` in the default run: float32, bfloat16 autocast, and which of them auto takes."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from random_samples import ACTION_DIM, CAMERAS, STATE_DIM, policy_processor, random_batch

from opentau.policies.config import nano
from opentau.policies.vla import VLA
from opentau.training.objectives import PolicyObjective
from opentau.training.options import AUTO, BFLOAT16, FLOAT32, ObjectiveOptions, TrainOptions
from opentau.training.precision import resolve_precision
from opentau.training.trainer import train

SLOWDOWN_ALLOWED = 1.1
"""What 'auto' may cost at most, relative to the faster precision."""


def update_cpu_s(precision: str, *, num_updates: int, batch_size: int) -> float:
    """Return the CPU seconds of one update, the first one left out."""
    config = nano(cameras=CAMERAS, state_dim=STATE_DIM, action_dim=ACTION_DIM)
    model = VLA.create(config, seed=0)
    objective = PolicyObjective(model, processor=policy_processor(config), options=ObjectiveOptions(num_noise_draws=2))
    batch, started = random_batch(config, batch_size=batch_size), list[float]()
    options = TrainOptions(
        num_updates=num_updates + 1, batch_size=batch_size, precision=precision, num_threads=1, snapshot_interval=10_000
    )
    with tempfile.TemporaryDirectory() as work_dir:
        train(
            model,
            loss=lambda update, piece: objective(batch, piece),
            options=options,
            seed=0,
            work_dir=Path(work_dir),
            between_updates=lambda: started.append(time.process_time()),
        )
    return (started[-1] - started[1]) / (len(started) - 2)


def main(arguments: list[str] | None = None) -> int:
    """Print the table; with --require, exit 1 when 'auto' is not about the faster of the two."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds, of which medians are taken")
    parser.add_argument("--updates", type=int, default=6, help="updates a round")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--json", action="store_true", help="print one line of figures")
    parser.add_argument("--require", action="store_true", help="fail when 'auto' takes the slower precision")
    parsed = parser.parse_args(arguments)
    rounds: dict[str, list[float]] = {FLOAT32: [], BFLOAT16: []}
    for _ in range(parsed.rounds):
        for precision, seconds in rounds.items():
            seconds.append(update_cpu_s(precision, num_updates=parsed.updates, batch_size=parsed.batch_size))
    medians = {precision: statistics.median(seconds) for precision, seconds in rounds.items()}
    auto = resolve_precision(AUTO, device_type="cpu")
    slowdown = medians[auto] / min(medians.values())
    if parsed.json:
        print(json.dumps({"update_cpu_s": medians, "auto": auto, "slowdown": slowdown, "rounds": parsed.rounds}))
    else:
        for precision, seconds in rounds.items():
            spread = f"{min(seconds):.3f} to {max(seconds):.3f}"
            print(f"{precision:<10}{medians[precision]:>8.3f} CPU-s an update ({spread})")
        print(f"'auto' takes {auto}: {slowdown:.2f} times the faster one's time")
    return 1 if parsed.require and slowdown > SLOWDOWN_ALLOWED else 0


if __name__ == "__main__":
    sys.exit(main())
