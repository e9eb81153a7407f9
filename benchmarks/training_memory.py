"""Peak memory of trainings on this processor, beside what `opentau doctor --memory` predicts; each runs in its own process."""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from random_samples import ACTION_DIM, CAMERAS, STATE_DIM, policy_processor, random_batch

from opentau.models.config import TransformerConfig, ViTTowerConfig
from opentau.models.recomputing import recompute_layers
from opentau.policies.config import PolicyConfig, StateInput, nano
from opentau.policies.vla import VLA
from opentau.training.memory import memory_need
from opentau.training.objectives import PolicyObjective
from opentau.training.options import AdapterOptions, DistributionOptions, ObjectiveOptions, TrainOptions, TuningOptions
from opentau.training.trainer import train
from opentau.training.tuning import settle, tune

NANO = nano(cameras=CAMERAS, state_dim=STATE_DIM, action_dim=ACTION_DIM)
BACKBONE = TransformerConfig(width=768, depth=8, num_heads=8, num_kv_heads=1, head_dim=96, mlp_dim=3072)
PI05 = dataclasses.replace(
    NANO,
    vision=ViTTowerConfig(image_size=64, patch_size=8, width=384, depth=8, num_heads=6, mlp_dim=1536),
    backbone=BACKBONE,
    expert=dataclasses.replace(BACKBONE, width=384, mlp_dim=1536, is_adaptive=True),
    state_input=StateInput.TEXT,
    prompt_template="Task: {prompt}, State: {state};\nAction: ",
    max_prompt_tokens=100,
    has_camera_embedding=False,
)
LORA = TuningOptions(
    freeze=("vision.*", "text_embedding.*"),
    adapt=(AdapterOptions(layers="backbone.*", rank=16), AdapterOptions(layers="expert.*", rank=32)),
    frozen_precision="bfloat16",
)
RECOMPUTED = DistributionOptions(checkpoint_activations=True)
CASES: dict[str, tuple[PolicyConfig, int, dict[str, Any]]] = {
    "nano": (NANO, 256, {}),
    "nano, float32": (NANO, 256, {"precision": "float32"}),
    "nano, recomputed": (NANO, 256, {"distribution": RECOMPUTED}),
    "π0.5 in small": (PI05, 16, {}),
    "…, recomputed": (PI05, 16, {"distribution": RECOMPUTED}),
    "…, four pieces": (PI05, 16, {"distribution": DistributionOptions(accumulation=4)}),
    "…, no average": (PI05, 16, {"ema_decay": 0.0}),
    "…, 8-bit moments": (PI05, 16, {"tuning": TuningOptions(optimizer_bits=8)}),
    "…, frozen eyes": (PI05, 16, {"tuning": TuningOptions(freeze=("vision.*",))}),
    "…, adapters": (PI05, 16, {"tuning": LORA}),
    "…, adapters, recomputed": (PI05, 16, {"tuning": LORA, "distribution": RECOMPUTED}),
}


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", help="measure one case in this process, and print bytes")
    parsed = parser.parse_args(arguments)
    if parsed.case:
        print(json.dumps(_measured(*_setting(parsed.case))))
        return 0
    print(f"{'':26}{'predicted':>12}{'measured':>12}{'predicted / measured':>24}")
    for name in CASES:
        command = [sys.executable, __file__, "--case", name]
        measured = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        config, options, tuning, distribution = _setting(name)
        need = memory_need(config, options=options, objective=ObjectiveOptions(), tuning=tuning, distribution=distribution)
        print(f"{name:26}{need.total / 1e9:>9.2f} GB{measured / 1e9:>9.2f} GB{need.total / measured:>24.2f}", flush=True)
    return 0


def _setting(name: str) -> tuple[PolicyConfig, TrainOptions, TuningOptions, DistributionOptions]:
    config, batch_size, changes = CASES[name]
    changes = {"precision": "bfloat16", **changes}
    tuning, distribution = changes.pop("tuning", TuningOptions()), changes.pop("distribution", DistributionOptions())
    options = TrainOptions(num_updates=2, batch_size=batch_size, num_threads=1, snapshot_interval=2, **changes)
    return config, options, tuning, distribution


def _measured(config: PolicyConfig, options: TrainOptions, tuning: TuningOptions, distribution: DistributionOptions) -> int:
    """Return the bytes that a training of two updates takes beyond what the process has after a tiny one."""
    _train(NANO, dataclasses.replace(options, batch_size=4), TuningOptions(), DistributionOptions())
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    _train(config, options, tuning, distribution)
    return _status("VmHWM") - before


def _train(config: PolicyConfig, options: TrainOptions, tuning: TuningOptions, distribution: DistributionOptions) -> None:
    model = VLA.create(config, seed=0)
    tune(model, tuning, seed=0)
    if distribution.checkpoint_activations:
        recompute_layers(model)
    objective = PolicyObjective(model, processor=policy_processor(config), options=ObjectiveOptions())
    batch = random_batch(config, batch_size=options.batch_size)
    with tempfile.TemporaryDirectory() as work_dir:
        train(
            model,
            loss=lambda update, piece: objective(batch, piece),
            options=options,
            seed=0,
            work_dir=Path(work_dir),
            distribution=distribution,
            tuning=tuning,
        )
    settle(model)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    sys.exit(main())
