"""CPU time of a π0.5 forward and backward pass and of a 10-step chunk, beside LeRobot's own, alternating, one thread.

Both do the same: flow loss alone, vision trained, one noise draw, no insulation, no action tokens, no dropout, without the
optimiser. A second row is our default recipe: two noise draws per observation. Takes about three minutes per size.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from opentau.models.allocation import keep_freed_memory
from opentau.models.config import TransformerConfig, ViTTowerConfig
from opentau.models.flow import integrate, noisy_action, target_velocity
from opentau.policies.config import PolicyConfig, StateInput
from opentau.policies.family import PI05_TEMPLATE
from opentau.policies.inputs import PrefixInputs
from opentau.policies.vla import VLA

# Shapes: B samples, C cameras, Y and X image rows and columns, H actions of a chunk, A action dimensions.

REPOSITORY = Path(__file__).resolve().parents[1]
LEROBOT_SIDE = Path(__file__).resolve().parent / "lerobot_side" / "policy_speed.py"
LEROBOT_PYTHON = REPOSITORY / ".venv-lerobot" / "bin" / "python"
COMMON = {"batch": 4, "chunk": 50, "action": 32, "prompt": 48, "image": 224, "vocabulary": 4096, "num_heads": 8}
SIZES: dict[str, dict[str, int]] = {
    "small": {
        **COMMON, "width": 256, "mlp_dim": 1024, "depth": 4, "expert_width": 128, "expert_mlp_dim": 512, "head_dim": 32,
        "vision_width": 192, "vision_depth": 4, "vision_mlp_dim": 768, "vision_heads": 8,
    },
    "mid": {
        **COMMON, "width": 512, "mlp_dim": 2048, "depth": 8, "expert_width": 256, "expert_mlp_dim": 1024, "head_dim": 64,
        "vision_width": 384, "vision_depth": 8, "vision_mlp_dim": 1536, "vision_heads": 8,
    },
}  # fmt: skip
BARS = {"train": 0.6, "infer": 0.5}
"""Largest share of LeRobot's CPU time."""
DEFAULT_DRAWS = 2
NUM_STEPS = 10


class Ours:
    """One pass of our own at a time."""

    def __init__(self, sizes: dict[str, int], *, dtype: str) -> None:
        torch.manual_seed(0)
        self.is_half = dtype == "bfloat16"
        self.model = VLA.create(policy_config(sizes), seed=0)
        batch, prompt, image = sizes["batch"], sizes["prompt"], sizes["image"]
        self.inputs = PrefixInputs(
            images_BCYX3=torch.randint(0, 256, (batch, 2, image, image, 3), dtype=torch.uint8),
            has_camera_BC=torch.ones(batch, 2, dtype=torch.bool),
            prompt_BP=torch.randint(0, sizes["vocabulary"], (batch, prompt)),
            has_prompt_BP=torch.ones(batch, prompt, dtype=torch.bool),
            worded_BVP=torch.zeros(batch, 0, prompt, dtype=torch.int64),
            has_worded_BVP=torch.zeros(batch, 0, prompt, dtype=torch.bool),
            state_BS=torch.zeros(batch, 8),
            has_state_B=torch.ones(batch, dtype=torch.bool),
            indicator_B=torch.full((batch,), -1),
            indicator_BI=torch.zeros(batch, 0, dtype=torch.int64),
        )
        self.action_BHA, self.noise_BHA = (torch.randn(batch, sizes["chunk"], sizes["action"]) for _ in range(2))
        self.time_B1 = torch.rand(batch, 1)

    def train(self, *, draws: int = 1) -> float:
        """Return the CPU seconds of a forward and a backward pass."""
        self.model.train()
        action_BHA, noise_BHA, time_B1 = (
            tensor.repeat_interleave(draws, dim=0) for tensor in (self.action_BHA, self.noise_BHA, self.time_B1)
        )

        def work() -> None:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.is_half):
                noisy_BHA = noisy_action(action_BHA=action_BHA, noise_BHA=noise_BHA, time_BX=time_B1)
                context = self.model.expert_context(self.model.prefix(self.inputs).repeated(draws))
                velocity_BHA = self.model.velocity(context, noisy_BHA=noisy_BHA, time_BX=time_B1)
            wanted_BHA = target_velocity(action_BHA=action_BHA, noise_BHA=noise_BHA)
            (velocity_BHA.float() - wanted_BHA).square().mean().backward()
            self.model.zero_grad(set_to_none=True)

        return cpu_s(work)

    def infer(self) -> float:
        """Return the CPU seconds of a chunk in ten steps."""
        self.model.eval()

        def work() -> None:
            with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.is_half):
                context = self.model.expert_context(self.model.prefix(self.inputs))

                def velocity(x_BHA: Tensor, time_BX: Tensor) -> Tensor:
                    return self.model.velocity(context, noisy_BHA=x_BHA, time_BX=time_BX)

                integrate(velocity, noise_BHA=self.noise_BHA, num_steps=NUM_STEPS)

        return cpu_s(work)


class Theirs:
    """LeRobot's passes, in a process of its own environment."""

    def __init__(self, python: Path, sizes: dict[str, int], *, dtype: str) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        command = [str(python), str(LEROBOT_SIDE), json.dumps(sizes), "--dtype", dtype]
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.about: dict[str, Any] = json.loads(self._answer())

    def once(self, what: str) -> float:
        """Return the CPU seconds of one pass."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"LeRobot's side ended with {self.process.wait()}; run {LEROBOT_SIDE} by hand to see why")
        return line

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def policy_config(sizes: dict[str, int]) -> PolicyConfig:
    sized = functools.partial(
        TransformerConfig, num_heads=sizes["num_heads"], num_kv_heads=1, head_dim=sizes["head_dim"], depth=sizes["depth"]
    )
    return PolicyConfig(
        cameras=("cam0", "cam1"),
        vision=ViTTowerConfig(
            image_size=sizes["image"],
            patch_size=14,
            width=sizes["vision_width"],
            depth=sizes["vision_depth"],
            num_heads=sizes["vision_heads"],
            mlp_dim=sizes["vision_mlp_dim"],
        ),
        backbone=sized(width=sizes["width"], mlp_dim=sizes["mlp_dim"]),
        expert=sized(width=sizes["expert_width"], mlp_dim=sizes["expert_mlp_dim"], is_adaptive=True),
        state_dim=8,
        action_dim=sizes["action"],
        action_horizon=sizes["chunk"],
        text_vocab_size=sizes["vocabulary"] - 1,
        fast_vocab_size=1,
        max_prompt_tokens=sizes["prompt"],
        max_fast_tokens=1,
        prompt_template=PI05_TEMPLATE,
        state_input=StateInput.TEXT,
        has_camera_embedding=False,
        has_indicator_text=False,
        has_indicator_embedding=False,
    )


def cpu_s(work: Callable[[], None]) -> float:
    """Return the CPU seconds of this process that some work takes."""
    start = time.process_time()
    work()
    return time.process_time() - start


def measure(name: str, *, python: Path, rounds: int, dtype: str) -> dict[str, Any]:
    """Return median CPU seconds of both sides at one size, and the median of the ratios of neighbouring passes."""
    theirs = Theirs(python, SIZES[name], dtype=dtype)
    try:
        ours = Ours(SIZES[name], dtype=dtype)
        passes: dict[str, tuple[Callable[[], float], Callable[[], float]]] = {
            "train": (ours.train, lambda: theirs.once("train")),
            "infer": (ours.infer, lambda: theirs.once("infer")),
            "default recipe": (lambda: ours.train(draws=DEFAULT_DRAWS), lambda: theirs.once("train")),
        }
        found: dict[str, Any] = {"lerobot": theirs.about["lerobot"]}
        for what, (mine, other) in passes.items():
            mine(), other()  # warm up
            pairs = [(mine(), other()) for _ in range(rounds)]
            found[what] = {
                "ours_s": statistics.median(pair[0] for pair in pairs),
                "lerobot_s": statistics.median(pair[1] for pair in pairs),
                "ratio": statistics.median(pair[0] / pair[1] for pair in pairs),
            }
        return found
    finally:
        theirs.close()


def main(arguments: list[str] | None = None) -> int:
    """Measure all sizes and print them; 1 above the bars with --require."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=sorted(SIZES), default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=7, help="passes of each side")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--python", type=Path, default=LEROBOT_PYTHON, help="python of an environment with LeRobot")
    parser.add_argument("--json", action="store_true", help="print one line of figures")
    parser.add_argument("--require", action="store_true", help="fail above the bars")
    parsed = parser.parse_args(arguments)
    if not parsed.python.exists():
        raise SystemExit(f"there is no {parsed.python}; make it with: make lerobot-env")
    torch.set_num_threads(1)
    keep_freed_memory()  # as every run of ours does; LeRobot's process is left as LeRobot runs
    found = {name: measure(name, python=parsed.python, rounds=parsed.rounds, dtype=parsed.dtype) for name in parsed.sizes}
    if parsed.json:
        print(json.dumps({"dtype": parsed.dtype, **found}))
    else:
        print(f"{'CPU seconds':<24}{'ours':>10}{'LeRobot':>10}{'ratio':>8}{'allowed':>9}")
        for name, rows in found.items():
            for what, row in rows.items():
                if what != "lerobot":
                    bar = f"{BARS[what]:>9.2f}" if what in BARS else ""
                    print(f"{name + ', ' + what:<24}{row['ours_s']:>10.3f}{row['lerobot_s']:>10.3f}{row['ratio']:>8.2f}{bar}")
    is_fast = all(rows[what]["ratio"] <= bar for rows in found.values() for what, bar in BARS.items())
    return 1 if parsed.require and not is_fast else 0


if __name__ == "__main__":
    sys.exit(main())
