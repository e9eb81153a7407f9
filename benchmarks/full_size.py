"""π0.5 at its published size with random weights and three cameras: training, a chunk, LoRA in 24 GB, one iteration of a loop.

With a GPU everything runs at full size in bfloat16, and --require holds it to the bars. Without one the same code runs at small
shapes in float32 and bfloat16, in about a minute of processor time: that shows that it works, and says nothing about a GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from random_samples import ACTION_DIM, STATE_DIM, policy_processor, random_batch
from torch.utils.flop_counter import FlopCounterMode

from opentau.cli.compose import compose_config
from opentau.config import options_from
from opentau.models.config import ViTTowerConfig
from opentau.models.flow import noisy_action, target_velocity
from opentau.models.recomputing import recompute_layers
from opentau.policies.config import PolicyConfig
from opentau.policies.family import published
from opentau.policies.inputs import PrefixInputs
from opentau.policies.options import InferenceOptions
from opentau.policies.policy import VLAPolicy
from opentau.policies.vla import VLA
from opentau.training.memory import memory_need
from opentau.training.objectives import PolicyObjective
from opentau.training.options import DistributionOptions, ObjectiveOptions, TrainOptions, TuningOptions
from opentau.training.trainer import train
from opentau.training.tuning import tune
from opentau.types import Observation, PolicyRequest

CAMERAS = ("base", "left_wrist", "right_wrist")
PROMPT = "pick up the alphabet soup and place it in the basket, then open the middle drawer of the cabinet"
GB = 1e9
BARS = {"mfu": 0.45, "chunk_ms": 20.0, "lora_gb": 24.0}
"""Of an H100: smallest share of its arithmetic in training, longest chunk, largest LoRA training."""
PEAKS = {"H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Products in bfloat16 a second, without sparsity, by a part of the device's name."""
NUM_FLOW_STEPS, NUM_CHUNKS = 10, 7
TOLERANCE = 1.2
"""Of predicted memory."""
LOOP = (
    "experiment=tiny", "iterations=1", "data.demonstrations=4", "collect.episodes=4", "evaluation.episodes=0",
    "evaluation.final_states=2", "gate.is_open=true", "value.fit.num_updates=5",
    "sft.num_updates=4", "update.num_updates=4", "sft.num_warmup_updates=1", "update.num_warmup_updates=1",
)  # fmt: skip
LOOP_AT_FULL_SIZE = (
    "policy=pi05", "~policy.args.width", "~policy.args.depth", "policy.args.action_horizon=50", "tuning=lora",
    "training.checkpoint_activations=true", "inference.precision=bfloat16", "inference.is_recorded=true",
    "sft.batch_size=8", "update.batch_size=8", "sft.precision=bfloat16", "update.precision=bfloat16",
)  # fmt: skip


def policy_config(*, is_full: bool) -> PolicyConfig:
    """Return π0.5, or its parts at a thousandth of the weights."""
    config = published("pi05", cameras=CAMERAS, state_dim=STATE_DIM, action_dim=ACTION_DIM)
    if is_full:
        return config
    sizes: dict[str, Any] = {"depth": 3, "num_heads": 4, "head_dim": 32}
    return dataclasses.replace(
        config,
        vision=ViTTowerConfig(image_size=56, patch_size=14, width=96, depth=3, num_heads=4, mlp_dim=256),
        backbone=dataclasses.replace(config.backbone, width=192, mlp_dim=768, **sizes),
        expert=dataclasses.replace(config.expert, width=96, mlp_dim=384, **sizes),
        text_vocab_size=4096,
    )


def pass_flops(config: PolicyConfig, *, num_prompt_tokens: int) -> int:
    """Return the arithmetic of one sample's forward and backward pass, counted on tensors without memory.

    That is of the model as it stands, one noise draw, nothing computed twice and no word predicted.
    """
    with torch.device("meta"):
        model = VLA(config).eval()
        size, cameras = config.vision.image_size, len(config.cameras)
        inputs = PrefixInputs(
            images_BCYX3=torch.zeros((1, cameras, size, size, 3), dtype=torch.uint8),
            has_camera_BC=torch.ones((1, cameras), dtype=torch.bool),
            prompt_BP=torch.zeros((1, num_prompt_tokens), dtype=torch.int64),
            has_prompt_BP=torch.ones((1, num_prompt_tokens), dtype=torch.bool),
            worded_BVP=torch.zeros((1, 0, 0), dtype=torch.int64),
            has_worded_BVP=torch.zeros((1, 0, 0), dtype=torch.bool),
            state_BS=torch.zeros(1, config.state_dim),
            has_state_B=torch.ones(1, dtype=torch.bool),
            indicator_B=torch.zeros(1, dtype=torch.int64),
            indicator_BI=torch.zeros((1, 0), dtype=torch.int64),
        )
        action_BHA = torch.zeros(1, config.action_horizon, config.action_dim)
        time_B1 = torch.ones(1, 1)
        counter = FlopCounterMode(display=False)
        with counter:
            noisy_BHA = noisy_action(action_BHA=action_BHA, noise_BHA=action_BHA, time_BX=time_B1)
            velocity_BHA = model.velocity(model.expert_context(model.prefix(inputs)), noisy_BHA=noisy_BHA, time_BX=time_B1)
            (velocity_BHA - target_velocity(action_BHA=action_BHA, noise_BHA=action_BHA)).square().mean().backward()
    return int(counter.get_total_flops())


def peak_flops(device: str) -> float:
    """Return products a second at most: the maker's figure for a GPU, the best of a few large ones for a processor."""
    if device != "cpu":
        name = torch.cuda.get_device_name()
        for part, peak in PEAKS.items():
            if part in name:
                return peak
        raise SystemExit(f"the peak of {name} is not known here; give it with --peak-tflops")
    size = 768
    matrix = torch.ones(size, size)
    return max(2 * size**3 / _seconds(lambda: matrix @ matrix) for _ in range(5))


def training_row(*, is_full: bool, device: str, peak: float, batch_size: int) -> dict[str, Any]:
    """Return samples a second and their share of the device's arithmetic, of the trainer as runs use it."""
    config = policy_config(is_full=is_full)
    options = TrainOptions(
        num_updates=6, batch_size=batch_size, ema_decay=0.0, precision="bfloat16" if is_full else "float32",
        num_threads=1, snapshot_interval=10_000, num_warmup_updates=1,
    )  # fmt: skip
    distribution = _that_fits(config, options, limit=torch.cuda.mem_get_info()[1] if is_full else None)
    starts = _train(config, options, device=device, distribution=distribution, tuning=TuningOptions())
    durations = [after - before for before, after in itertools.pairwise(starts[2:])]
    update_s = statistics.median(durations)
    batch = random_batch(config, batch_size=1, prompt=PROMPT)
    inputs = policy_processor(config).prefix_inputs(
        images=batch.images, prompts=batch.prompt, state_BS=batch.state, indicator_B=batch.indicator
    )
    flops = pass_flops(config, num_prompt_tokens=inputs.prompt_BP.shape[1])
    return {
        "samples_per_s": batch_size / update_s,
        "tera_flops_of_a_sample": flops / 1e12,
        "mfu": flops * batch_size / update_s / peak,
        "recomputes_layers": distribution.checkpoint_activations,
        "pieces": distribution.accumulation,
    }


def chunk_rows(*, is_full: bool, device: str) -> dict[str, float]:
    """Return the milliseconds of one request's chunk in ten steps, in each way of computing it; the last one is for GPUs."""
    config = policy_config(is_full=is_full)
    ways: dict[str, dict[str, Any]] = {
        "bfloat16, launched": {"precision": "bfloat16"},
        "bfloat16, recorded": {"precision": "bfloat16", "is_recorded": True},
    }  # fmt: skip
    if not is_full:
        ways = {"float32": {}, "float32, recorded": {"is_recorded": True}, **ways}
    return {
        name: _chunk_ms(config, options_from(InferenceOptions, way, where=name), device=device) for name, way in ways.items()
    }


def _chunk_ms(config: PolicyConfig, options: InferenceOptions, *, device: str) -> float:
    options = dataclasses.replace(options, num_flow_steps=NUM_FLOW_STEPS)
    model = VLA.create(config, seed=0).to(device)
    policy = VLAPolicy(model, processor=policy_processor(config), policy_version="random", options=options)
    requests = [_request(config, seed=seed) for seed in range(NUM_CHUNKS)]
    policy.infer(requests[:2])
    return 1000 * statistics.median(_seconds(partial(policy.infer, [asked])) for asked in requests)


def lora_row(*, is_full: bool, device: str, batch_size: int) -> dict[str, float]:
    """Return the gigabytes that three updates of adapters take at most, beside what was predicted.

    On a GPU the process cannot have more than 24 GB; without one the figure is the growth of the process.
    """
    if is_full:
        torch.cuda.set_per_process_memory_fraction(BARS["lora_gb"] * GB / torch.cuda.mem_get_info()[1])
    config = policy_config(is_full=is_full)
    tuning = options_from(TuningOptions, compose_config("loop", ["tuning=lora"])["tuning"], where="tuning")
    options = TrainOptions(num_updates=3, batch_size=batch_size, ema_decay=0.0, precision="bfloat16", num_threads=1)
    distribution = DistributionOptions(checkpoint_activations=True)
    need = memory_need(
        config, options=options, objective=ObjectiveOptions(num_noise_draws=1), tuning=tuning, distribution=distribution
    )
    if not is_full:
        # What the libraries take once is no part of it.
        _train(config, dataclasses.replace(options, batch_size=1), device=device, distribution=distribution, tuning=tuning)
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    before = _status("VmRSS")
    _train(config, options, device=device, distribution=distribution, tuning=tuning)
    taken = torch.cuda.max_memory_reserved() if is_full else _status("VmHWM") - before
    return {"taken_gb": taken / GB, "predicted_gb": need.total / GB}


def loop_row(*, is_full: bool) -> dict[str, Any]:
    """Return the seconds of each stage of one iteration: demonstrations, training, serving, labelling, update, score."""
    overrides = [*LOOP, *(LOOP_AT_FULL_SIZE if is_full else ())]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "OPENTAU_RUNS": folder}
        command = [sys.executable, "-P", "-m", "opentau.cli.main", "loop", *overrides, "run_id=once"]
        started = time.perf_counter()
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        whole_s = time.perf_counter() - started
        stages = sorted(path.name.rsplit("-", 1)[0] for path in (Path(folder) / "once" / "stages").iterdir())
    return {"whole_s": whole_s, "stages": stages}


def _that_fits(config: PolicyConfig, options: TrainOptions, *, limit: int | None) -> DistributionOptions:
    """Return the fastest way to train whose predicted need fits a GPU, with a fifth to spare."""
    if limit is None:
        return DistributionOptions()
    ways = [(recomputes, pieces) for recomputes in (False, True) for pieces in (1, 2, 4, 8)]
    for recomputes, pieces in ways:
        distribution = DistributionOptions(checkpoint_activations=recomputes, accumulation=min(pieces, options.batch_size))
        need = memory_need(
            config,
            options=options,
            objective=ObjectiveOptions(num_noise_draws=1),
            tuning=TuningOptions(),
            distribution=distribution,
        )
        if TOLERANCE * need.total < limit:
            return distribution
    raise SystemExit(f"a training of {options.batch_size} samples does not fit into {limit / GB:.0f} GB; give --batch-size")


def _train(
    config: PolicyConfig, options: TrainOptions, *, device: str, distribution: DistributionOptions, tuning: TuningOptions
) -> list[float]:
    """Train on random samples and return when each update began."""
    model = VLA.create(config, seed=0)
    tune(model, tuning, seed=0)
    if distribution.checkpoint_activations:
        recompute_layers(model)
    model.to(device)
    objective = PolicyObjective(model, processor=policy_processor(config), options=ObjectiveOptions(num_noise_draws=1))
    batch, started = random_batch(config, batch_size=options.batch_size, prompt=PROMPT), list[float]()

    def between_updates() -> None:
        if device != "cpu":
            torch.cuda.synchronize()
        started.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as work_dir:
        train(
            model,
            loss=lambda update, piece: objective(batch, piece),
            options=options,
            seed=0,
            work_dir=Path(work_dir),
            between_updates=between_updates,
            distribution=distribution,
            tuning=tuning,
        )
    return started


def _request(config: PolicyConfig, *, seed: int) -> PolicyRequest:
    rng, size = np.random.default_rng(seed), config.vision.image_size
    seen = Observation(
        images={camera: rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for camera in CAMERAS},
        state=rng.uniform(-1, 1, STATE_DIM).astype(np.float32),
        prompt="pick up the alphabet soup and place it in the basket",
        time_s=0.0,
    )
    return PolicyRequest(observation=seen, episode_seed=seed, tick=0)


def _seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _in_a_process(case: str, arguments: list[str]) -> dict[str, Any]:
    """Return a row that another process measures, so that what it holds of the device is gone afterwards."""
    command = [sys.executable, "-P", __file__, "--case", case, *arguments]
    return dict(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]))


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a table; 1 with --require where a GPU misses a bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, help="samples of an update (default 32 on a GPU, else 4)")
    parser.add_argument("--peak-tflops", type=float, help="the device's own figure in bfloat16, where it is not known here")
    parser.add_argument("--json", action="store_true", help="print one line of figures")
    parser.add_argument("--require", action="store_true", help="fail where a GPU misses a bar")
    parser.add_argument("--case", choices=("train", "chunk", "lora", "loop"), help="measure one thing in this process alone")
    parsed = parser.parse_args(arguments)
    is_full = torch.cuda.is_available()
    device, batch_size = ("cuda", parsed.batch_size or 32) if is_full else ("cpu", parsed.batch_size or 4)
    torch.set_num_threads(1)
    if parsed.case:
        peak = parsed.peak_tflops * 1e12 if parsed.peak_tflops else None
        cases: dict[str, Callable[[], dict[str, Any]]] = {
            "train": lambda: training_row(
                is_full=is_full, device=device, peak=peak or peak_flops(device), batch_size=batch_size
            ),
            "chunk": lambda: chunk_rows(is_full=is_full, device=device),
            "lora": lambda: lora_row(is_full=is_full, device=device, batch_size=min(8, batch_size)),
            "loop": lambda: loop_row(is_full=is_full),
        }
        print(json.dumps(cases[parsed.case]()))
        return 0
    further = [f"--batch-size={batch_size}", *([f"--peak-tflops={parsed.peak_tflops}"] if parsed.peak_tflops else [])]
    found: dict[str, Any] = {case: _in_a_process(case, further) for case in ("train", "chunk", "lora", "loop")}
    found["device"] = torch.cuda.get_device_name() if is_full else "cpu, at small shapes: no measure of a GPU"
    print(json.dumps(found) if parsed.json else _table(found))
    return 1 if parsed.require and is_full and _missed(found) else 0


def _missed(found: dict[str, Any]) -> list[str]:
    """Return the bars that a GPU misses."""
    reached = {
        "mfu": found["train"]["mfu"] >= BARS["mfu"],
        "chunk_ms": min(found["chunk"].values()) <= BARS["chunk_ms"],
        "lora_gb": found["lora"]["taken_gb"] <= BARS["lora_gb"],
    }
    return [name for name, is_reached in reached.items() if not is_reached]


def _table(found: dict[str, Any]) -> str:
    trained, lora, loop = found["train"], found["lora"], found["loop"]
    lines = [
        found["device"],
        f"{'training, samples a second':<40}{trained['samples_per_s']:>10.2f}",
        f"{'  TFLOP of a sample':<40}{trained['tera_flops_of_a_sample']:>10.4f}",
        f"{'  share of the arithmetic (MFU)':<40}{trained['mfu']:>10.3f}   on a GPU at least {BARS['mfu']}",
        *(f"{'chunk of ten steps, ms, ' + way:<40}{ms:>10.1f}" for way, ms in found["chunk"].items()),
        f"{'LoRA, GB':<40}{lora['taken_gb']:>10.2f}   predicted {lora['predicted_gb']:.2f}, on a GPU at most 24",
        f"{'one iteration of a loop, s':<40}{loop['whole_s']:>10.1f}   {', '.join(loop['stages'])}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
