"""What it costs to say action tokens: each token read once, beside reading everything said so far anew for each of them."""

from __future__ import annotations

import argparse
import json
import time
from statistics import median

import torch

from opentau.models.config import TransformerConfig
from opentau.policies.answering import most_likely
from opentau.policies.config import PolicyConfig, nano
from opentau.policies.inputs import PrefixInputs
from opentau.policies.prefix import Prefix
from opentau.policies.vla import VLA

CAMERAS = ("agentview", "wrist")
NUM_PROMPT_TOKENS = 24
STACKS = {
    "nano": None,
    "wide": TransformerConfig(width=768, depth=12, num_heads=12, num_kv_heads=1, head_dim=64, mlp_dim=3072),
}
"""The policy of `policy=nano`, and one of some 140 million parameters whose backbone is shaped as π0.5's."""


def config_of(name: str) -> PolicyConfig:
    """Return a small policy, or the same with another backbone."""
    config = nano(cameras=CAMERAS, state_dim=8, action_dim=7)
    stack = STACKS[name]
    if stack is None:
        return config
    expert = TransformerConfig(width=64, depth=12, num_heads=1, num_kv_heads=1, head_dim=64, mlp_dim=64, is_adaptive=True)
    return PolicyConfig.from_dict({**config.to_dict(), "backbone": stack, "expert": expert})


def prefix_of(model: VLA, *, num_rows: int) -> Prefix:
    """Return the prefix of random observations."""
    size = model.config.vision.image_size
    generator = torch.Generator().manual_seed(0)
    inputs = PrefixInputs(
        images_BCYX3=torch.randint(0, 256, (num_rows, 2, size, size, 3), dtype=torch.uint8, generator=generator),
        has_camera_BC=torch.ones(num_rows, 2, dtype=torch.bool),
        prompt_BP=torch.randint(32, 500, (num_rows, NUM_PROMPT_TOKENS), generator=generator),
        has_prompt_BP=torch.ones(num_rows, NUM_PROMPT_TOKENS, dtype=torch.bool),
        worded_BVP=torch.zeros(num_rows, 0, 0, dtype=torch.int64),
        has_worded_BVP=torch.zeros(num_rows, 0, 0, dtype=torch.bool),
        state_BS=torch.randn(num_rows, 8, generator=generator),
        has_state_B=torch.ones(num_rows, dtype=torch.bool),
        indicator_B=torch.ones(num_rows, dtype=torch.int64),
        indicator_BI=torch.full((num_rows, 6), 40),
    )
    return model.prefix(inputs)


def said_anew(model: VLA, prefix: Prefix, *, first_id: int, allowed_V: torch.Tensor, num_tokens: int) -> list[list[int]]:
    """Return the same as `most_likely` without an end, reading all of the continuation for each token."""
    token_BF = torch.full((len(prefix.has_token_BT), 1), first_id)
    for _ in range(num_tokens):
        logits_BV = model.logits(model.continuation(prefix, token_BF)[:, -1])[:, allowed_V]
        token_BF = torch.cat((token_BF, allowed_V[logits_BV.argmax(dim=-1, keepdim=True)]), dim=1)
    return token_BF[:, 1:].tolist()


@torch.no_grad()
def measure(name: str, *, num_rows: int, num_tokens: int, repeats: int) -> dict[str, object]:
    """Return medians of CPU-ms a token, taken in turns."""
    config = config_of(name)
    model = VLA.create(config, seed=0).eval()
    prefix = prefix_of(model, num_rows=num_rows)
    allowed_V = torch.arange(config.text_vocab_size, config.vocab_size)
    taken: dict[str, list[float]] = {"kept": [], "anew": []}
    for _ in range(repeats):
        started = time.process_time()
        # No end: an id that is not allowed is never said.
        kept = most_likely(model, prefix, first_id=3, allowed_V=allowed_V, end_id=2, max_tokens=num_tokens)
        taken["kept"].append(time.process_time() - started)
        started = time.process_time()
        anew = said_anew(model, prefix, first_id=3, allowed_V=allowed_V, num_tokens=num_tokens)
        taken["anew"].append(time.process_time() - started)
    cpu_ms = {way: 1000 * median(seconds) / num_tokens for way, seconds in taken.items()}
    return {
        "policy": name,
        "rows": num_rows,
        "tokens": num_tokens,
        "prefix_tokens": prefix.has_token_BT.shape[1],
        "cpu_ms_per_token": {way: round(ms, 3) for way, ms in cpu_ms.items()},
        "ratio": round(cpu_ms["anew"] / cpu_ms["kept"], 2),
        "are_equal": kept == anew,
    }


def main() -> None:
    """Print one line of JSON per policy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", nargs="+", default=["nano"], choices=list(STACKS))
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.policy:
        print(json.dumps(measure(name, num_rows=arguments.rows, num_tokens=arguments.tokens, repeats=arguments.repeats)))


if __name__ == "__main__":
    main()
