"""Does a checkpoint taken in here compute what the project that wrote it computes? Largest difference per array.

Takes a checkpoint of LeRobot's, openpi's or TensorAuto OpenTau's and the numbers that its own project computed on one batch, as
`benchmarks/lerobot_side/parity.py` writes them, takes the checkpoint in as `opentau checkpoint import` does, and compares.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from opentau.models.flow import integrate, noisy_action, target_velocity
from opentau.policies.inputs import PrefixInputs
from opentau.policies.prefix import embed_observation
from opentau.policies.processor import Processor
from opentau.policies.published.reading import ReadOptions
from opentau.policies.published.taking_in import take_in
from opentau.policies.vla import VLA
from opentau.policies.weights import load_model
from opentau.types import Indicator

# Shapes: B samples, C cameras, Y and X image rows and columns, T prefix tokens, H actions of a chunk, A action dimensions.

TOLERANCES = {
    "tokens": 0.0,
    "state": 1e-6,
    "actions": 1e-6,
    "prefix": 1e-5,
    "velocity": 1e-5,
    "velocity, a time per action": 1e-5,
    "flow loss": 1e-5,
    "flow loss, insulated": 1e-5,
    "chunk of 1 step": 1e-4,
    "chunk of 10 steps": 1e-4,
    "chunk in units": 1e-4,
}
"""Largest absolute difference that is allowed, float32; times differ in how they are added up."""
STEPS = (1, 10)
TIME = 0.5
Compare = Callable[[str, Tensor | np.ndarray, np.ndarray], None]
"""Takes a name, ours and theirs."""


def differences(model: VLA, processor: Processor, numbers: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the largest difference of everything that both sides compute."""
    found: dict[str, float] = {}

    def compare(name: str, ours: Tensor | np.ndarray, theirs: np.ndarray) -> None:
        found[name] = float(np.abs(np.asarray(ours, np.float64) - theirs.astype(np.float64)).max())

    inputs = observed(processor, numbers)
    has_prompt = numbers["pre_observation_language_attention_mask"]
    ours = np.zeros_like(numbers["pre_observation_language_tokens"])
    ours[:, : inputs.prompt_BP.shape[1]] = inputs.prompt_BP.numpy()
    compare("tokens", np.where(has_prompt, ours, 0), np.where(has_prompt, numbers["pre_observation_language_tokens"], 0))
    state_dim = numbers["pre_observation_state"].shape[-1]
    compare("state", inputs.state_BS[:, :state_dim], numbers["pre_observation_state"])
    action_BHA = processor.encode_action(numbers["raw_action"])
    compare("actions", action_BHA[..., : numbers["pre_action"].shape[-1]], numbers["pre_action"])
    with torch.no_grad():
        _compare_model(model, processor, inputs, torch.from_numpy(action_BHA), numbers, compare)
    return found


def _compare_model(
    model: VLA,
    processor: Processor,
    inputs: PrefixInputs,
    action_BHA: Tensor,
    numbers: Mapping[str, np.ndarray],
    compare: Compare,
) -> None:
    """Compare what the model makes of the same inputs and the same noise."""
    embedded_BTW, has_token_BT = embed_observation(model, inputs)
    num_text = inputs.prompt_BP.shape[1]
    num_images = embedded_BTW.shape[1] - num_text
    theirs = numbers["prefix_embs"][:, : num_images + num_text]
    compare("prefix", embedded_BTW * has_token_BT[..., None], theirs * has_token_BT[..., None].numpy())
    context = model.expert_context(model.prefix(inputs))
    noise_BHA, time_B1 = (torch.from_numpy(numbers[name]) for name in ("noise", "time"))
    time_B1 = time_B1[:, None]
    batch_size, horizon, _ = noise_BHA.shape
    velocity_BHA = model.velocity(context, noisy_BHA=noise_BHA, time_BX=torch.full((batch_size, 1), TIME))
    compare("velocity", velocity_BHA, numbers["v_t_at_t05_xt_is_noise"])
    velocity_BHA = model.velocity(context, noisy_BHA=noise_BHA, time_BX=torch.full((batch_size, horizon), TIME))
    compare("velocity, a time per action", velocity_BHA, numbers["v_t_at_t05_xt_is_noise"])
    num_own = numbers["pre_action"].shape[-1]
    for name, seen in (("flow loss", model.prefix(inputs)), ("flow loss, insulated", model.prefix(inputs).detached())):
        noisy_BHA = noisy_action(action_BHA=action_BHA, noise_BHA=noise_BHA, time_BX=time_B1)
        velocity_BHA = model.velocity(model.expert_context(seen), noisy_BHA=noisy_BHA, time_BX=time_B1)
        error_BHA = (velocity_BHA - target_velocity(action_BHA=action_BHA, noise_BHA=noise_BHA)).square()
        compare(name, error_BHA[..., :num_own].mean(), numbers["flow_loss_mean_over_7d"])
    for steps in STEPS:
        chunk_BHA = integrate(
            lambda x_BHA, time_BX: model.velocity(context, noisy_BHA=x_BHA, time_BX=time_BX),
            noise_BHA=noise_BHA,
            num_steps=steps,
        )
        compare(f"chunk of {steps} step{'s' * (steps > 1)}", chunk_BHA, numbers[f"sampled_chunk_norm_{steps}steps_32d"])
    compare("chunk in units", processor.decode_action(chunk_BHA.numpy()), numbers["post_unnormalized_chunk"])


def observed(processor: Processor, numbers: Mapping[str, np.ndarray]) -> PrefixInputs:
    """Return the batch as the processor reads it; images keep the fractions that whole pixel values would lose."""
    batch_size = len(numbers["raw_task"])
    size = processor.config.vision.image_size
    blank = {camera: np.zeros((batch_size, size, size, 3), np.uint8) for camera in processor.config.cameras}
    inputs = processor.prefix_inputs(
        images=blank,
        prompts=[str(task) for task in numbers["raw_task"]],
        state_BS=processor.encode_state(numbers["raw_observation_state"]),
        indicator_B=np.full(batch_size, Indicator.ABSENT),
        state_dim_B=np.full(batch_size, processor.interface.state_dim),
    )
    images = [numbers[f"raw_observation_images_{camera}"] for camera in processor.config.cameras]
    images_BCYX3 = torch.from_numpy(np.stack(images, axis=1)).permute(0, 1, 3, 4, 2) * 255.0
    return dataclasses.replace(inputs, images_BCYX3=images_BCYX3)


def main(arguments: list[str] | None = None) -> int:
    """Take the checkpoint in, compare, print a table; 1 beyond the tolerances with --require."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="the published checkpoint, a folder")
    parser.add_argument("numbers", type=Path, help="what its project computed, .npz")
    parser.add_argument("--tokenizer", help="folder of its tokenizer.json (default: stub_tokenizer in the checkpoint)")
    parser.add_argument("--vision-heads", type=int, help="heads of a vision tower other than SigLIP So400m")
    parser.add_argument("--prompt-template", help="text of a prompt with {prompt} and {state} (default: its project's)")
    parser.add_argument("--json", action="store_true", help="print one line of figures")
    parser.add_argument("--require", action="store_true", help="fail beyond the tolerances")
    parsed = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        taken = take_in(
            parsed.checkpoint,
            Path(folder) / "checkpoint",
            options=ReadOptions(vision_heads=parsed.vision_heads, prompt_template=parsed.prompt_template),
            tokenizer=parsed.tokenizer or str(Path(parsed.checkpoint) / "stub_tokenizer"),
        )
        model, processor = load_model(taken.path)
    with np.load(parsed.numbers, allow_pickle=False) as stored:
        found = differences(model.eval(), processor, {name: stored[name] for name in stored.files})
    if parsed.json:
        print(json.dumps(found))
    else:
        print(f"{'largest difference':<30}{'ours':>12}{'allowed':>12}")
        for name, value in found.items():
            print(f"{name:<30}{value:>12.2e}{TOLERANCES[name]:>12.0e}")
    is_equal = all(value <= TOLERANCES[name] for name, value in found.items())
    return 1 if parsed.require and not is_equal else 0


if __name__ == "__main__":
    sys.exit(main())
