"""Write what transformers' Gemma 3 makes of a few tokens and patches, with the weights of it: tests/golden/gemma3.npz.

.venv-lerobot/bin/python benchmarks/lerobot_side/write_gemma3_golden.py tests/golden/gemma3.npz
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import Gemma3Config, Gemma3TextConfig
from transformers.models.gemma3.modeling_gemma3 import Gemma3MultiModalProjector, Gemma3TextModel

NUM_TOKENS, ROWS, POOLED_ROWS = 11, 4, 2
TEXT = Gemma3TextConfig(
    vocab_size=8,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    query_pre_attn_scalar=8,
    sliding_window=64,
    layer_types=["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
    rope_parameters={
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
    },
    attn_implementation="eager",
)
VISION = {"hidden_size": 12, "image_size": ROWS * 14, "patch_size": 14, "num_attention_heads": 2, "num_hidden_layers": 1}


def drawn(module: torch.nn.Module, *, generator: torch.Generator) -> torch.nn.Module:
    """Return the module with weights that are all different from nothing, norms as well."""
    with torch.no_grad():
        for tensor in module.parameters():
            tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))
    return module.eval()


@torch.no_grad()
def main() -> int:
    """Write weights by their names in transformers, inputs and outputs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    file = parser.parse_args().file
    generator = torch.Generator().manual_seed(0)
    text = drawn(Gemma3TextModel(TEXT), generator=generator)
    # A copy: the whole model's configuration takes attention, and with it the causal mask, from its parts.
    config = Gemma3Config(text_config=TEXT.to_dict(), vision_config=VISION, mm_tokens_per_image=POOLED_ROWS**2)
    projector = drawn(Gemma3MultiModalProjector(config), generator=generator)
    tokens = torch.randn((2, NUM_TOKENS, TEXT.hidden_size), generator=generator)
    patches = torch.randn((2, ROWS**2, VISION["hidden_size"]), generator=generator)
    arrays = {f"text.{name}": tensor for name, tensor in text.state_dict().items() if "embed_tokens" not in name}
    arrays |= {f"projector.{name}": tensor for name, tensor in projector.state_dict().items()}
    arrays |= {"in.tokens": tokens, "out.tokens": text(inputs_embeds=tokens).last_hidden_state}
    arrays |= {"in.patches": patches, "out.patches": projector(patches)}
    np.savez_compressed(file, **{name: tensor.numpy() for name, tensor in arrays.items()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
