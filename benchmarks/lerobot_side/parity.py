"""What LeRobot computes with a π0.5 checkpoint on one random batch: the numbers that `benchmarks/parity.py` compares with."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.factory import make_pre_post_processors
from lerobot.utils.constants import ACTION, OBS_LANGUAGE_ATTENTION_MASK, OBS_LANGUAGE_TOKENS, OBS_STATE
from safetensors.torch import load_file
from sized_pi05 import Sizes, sized_policy
from transformers import AutoTokenizer

TASKS = ("pick the red block", "open the drawer")
TIMES = (0.3, 0.8)
STEPS = (1, 10)
CORE = "model.paligemma_with_expert."
LANGUAGE, EXPERT = f"{CORE}paligemma.model.language_model.", f"{CORE}gemma_expert.model."
TOWER = f"{CORE}paligemma.model.vision_tower.vision_model."


def main() -> int:
    """Load the checkpoint with LeRobot, compute, and write an .npz."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="folder of a LeRobot π0.5 checkpoint of any size")
    parser.add_argument("out", type=Path, help="the .npz")
    parser.add_argument("--tokenizer", required=True, help="folder of its tokenizer")
    parser.add_argument("--vision-heads", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(parsed.seed)
    config = PreTrainedConfig.from_pretrained(parsed.checkpoint)
    config.device = "cpu"
    weights = load_file(parsed.checkpoint / "model.safetensors")
    policy = sized_policy(config, sizes_of(weights, vision_heads=parsed.vision_heads))
    policy.load_state_dict(weights, strict=True)
    before, behind = make_pre_post_processors(
        config,
        pretrained_path=str(parsed.checkpoint),
        preprocessor_overrides={
            "tokenizer_processor": {"tokenizer": AutoTokenizer.from_pretrained(parsed.tokenizer)},
            "device_processor": {"device": "cpu"},
        },
    )
    with torch.no_grad():
        np.savez_compressed(parsed.out, **computed(policy.eval(), before, behind))
    return 0


def sizes_of(weights: dict[str, torch.Tensor], *, vision_heads: int) -> Sizes:
    """Read the sizes off the weights; Gemma has one key/value head at this size."""
    num_queries, width = weights[f"{LANGUAGE}layers.0.self_attn.q_proj.weight"].shape
    head_dim = weights[f"{LANGUAGE}layers.0.self_attn.k_proj.weight"].shape[0]
    expert_mlp_dim, expert_width = weights[f"{EXPERT}layers.0.mlp.up_proj.weight"].shape
    return Sizes(
        width=width,
        depth=sum(name.startswith(LANGUAGE) and name.endswith("q_proj.weight") for name in weights),
        mlp_dim=weights[f"{LANGUAGE}layers.0.mlp.up_proj.weight"].shape[0],
        expert_width=expert_width,
        expert_mlp_dim=expert_mlp_dim,
        num_heads=num_queries // head_dim,
        head_dim=head_dim,
        vision_width=weights[f"{TOWER}embeddings.patch_embedding.weight"].shape[0],
        vision_depth=sum(name.startswith(TOWER) and name.endswith("q_proj.weight") for name in weights),
        vision_mlp_dim=weights[f"{TOWER}encoder.layers.0.mlp.fc1.weight"].shape[0],
        vision_heads=vision_heads,
        vocabulary=len(weights[f"{LANGUAGE}embed_tokens.weight"]),
    )


def usual(before, feature: str, *shape: int) -> torch.Tensor:
    """Return numbers between the quantiles that the policy scales by."""
    (statistics,) = [step._tensor_stats[feature] for step in before.steps if hasattr(step, "_tensor_stats")]
    low, high = statistics["q01"], statistics["q99"]
    return low + torch.rand(*shape, len(low)) * (high - low)


def computed(policy, before, behind) -> dict[str, np.ndarray]:
    """Return the batch, what the processors make of it, and what the model does."""
    config, model = policy.config, policy.model
    raw = {
        **{name: torch.rand(len(TASKS), 3, *config.image_resolution) for name in config.image_features},
        OBS_STATE: usual(before, OBS_STATE, len(TASKS)),
        ACTION: usual(before, ACTION, len(TASKS), config.chunk_size),
        "task": list(TASKS),
    }
    batch = before({name: value if name == "task" else value.clone() for name, value in raw.items()})
    images, masks = policy._preprocess_images(batch)
    tokens, has_token = batch[OBS_LANGUAGE_TOKENS], batch[OBS_LANGUAGE_ATTENTION_MASK]
    actions = policy.prepare_action(batch)
    noise, time = torch.randn(actions.shape), torch.tensor(TIMES)
    prefix, _, _ = model.embed_prefix(images, masks, tokens, has_token)
    losses = model.forward(images, masks, tokens, has_token, actions, noise, time)
    velocities: list[torch.Tensor] = []
    hook = model.action_out_proj.register_forward_hook(lambda _module, _inputs, output: velocities.append(output))
    with hook:
        # Where noise and action are one, so is every point between them.
        model.forward(images, masks, tokens, has_token, noise, noise, torch.full((len(TASKS),), 0.5))
    chunks = {steps: model.sample_actions(images, masks, tokens, has_token, noise=noise, num_steps=steps) for steps in STEPS}
    num_own = config.output_features[ACTION].shape[0]
    found = {
        **{f"raw_{name.replace('.', '_')}": value for name, value in raw.items() if name != "task"},
        "raw_task": np.array(TASKS),
        "pre_action": batch[ACTION],
        "pre_observation_state": batch[OBS_STATE],
        "pre_observation_language_tokens": tokens,
        "pre_observation_language_attention_mask": has_token,
        "noise": noise,
        "time": time,
        "prefix_embs": prefix,
        "v_t_at_t05_xt_is_noise": velocities[0],
        "flow_loss_mean_over_7d": losses[..., :num_own].mean(),
        **{f"sampled_chunk_norm_{steps}steps_32d": chunk for steps, chunk in chunks.items()},
        "post_unnormalized_chunk": behind(chunks[STEPS[-1]][..., :num_own]),
    }
    return {name: value.numpy() if isinstance(value, torch.Tensor) else value for name, value in found.items()}


if __name__ == "__main__":
    sys.exit(main())
