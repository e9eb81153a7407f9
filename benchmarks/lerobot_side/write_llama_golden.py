"""Write what transformers' Llama makes of some tokens: of random weights, or of the parts that `opentau parts` fetches.

.venv-lerobot/bin/python benchmarks/lerobot_side/write_llama_golden.py tests/golden/llama.npz
.venv-lerobot/bin/python benchmarks/lerobot_side/write_llama_golden.py tests/golden/smollm2.npz --parts FOLDER
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

NUM_TOKENS, NUM_LOGITS = 9, 64
"""Of each word's logits the first so many are kept of real parts, and the largest."""
TEXTS = ("The capital of France is", "pick up the alphabet soup and place it in the basket", "Q: 12 + 30 = ?\nA:")
RANDOM = {"width": 32, "depth": 2, "num_heads": 4, "num_kv_heads": 2, "head_dim": 8, "mlp_dim": 32}


def llama(sizes: dict[str, float], *, words: int) -> LlamaForCausalLM:
    """Return a model of these sizes, which are named as OpenTau names them."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=words,
            hidden_size=sizes["width"],
            intermediate_size=sizes["mlp_dim"],
            num_hidden_layers=sizes["depth"],
            num_attention_heads=sizes["num_heads"],
            num_key_value_heads=sizes["num_kv_heads"],
            head_dim=sizes["head_dim"],
            rms_norm_eps=sizes["norm_eps"],
            rope_parameters={"rope_type": "default", "rope_theta": sizes["rope_theta"]},
            tie_word_embeddings=True,
            attn_implementation="eager",
        )
    ).eval()


def of_random_weights() -> dict[str, np.ndarray]:
    """Return weights by transformers' names, tokens and all logits."""
    generator = torch.Generator().manual_seed(0)
    model = llama(RANDOM | {"norm_eps": 1e-5, "rope_theta": 1e5}, words=40)
    for tensor in model.parameters():
        tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))
    ids = torch.randint(0, 40, (2, NUM_TOKENS), generator=generator)
    arrays = {name: tensor.numpy() for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    return arrays | {"in.ids": ids.numpy(), "out.logits": model(ids).logits.numpy()}


def of_parts(folder: Path) -> dict[str, np.ndarray]:
    """Return ids, and for every one of them some logits and the largest one's place, of each text."""
    described = json.loads((folder / "parts.json").read_text())["language"]
    weights = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        if name.startswith(("backbone.", "text_embedding.")):
            renamed = name.replace("text_embedding", "model.embed_tokens").replace("backbone.", "model.")
            weights[renamed] = tensor.float() + 1 if "norm" in name else tensor.float()
    model = llama(described["sizes"], words=described["words"])
    left = model.load_state_dict(weights, strict=False)
    assert left.missing_keys == ["lm_head.weight"], left.missing_keys
    assert not left.unexpected_keys, left.unexpected_keys
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    arrays = {}
    for number, text in enumerate(TEXTS):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        logits = model(torch.tensor([ids])).logits[0]
        arrays |= {f"text.{number}": np.array(text), f"ids.{number}": np.array(ids)}
        arrays |= {f"logits.{number}": logits[:, :NUM_LOGITS].numpy(), f"largest.{number}": logits.argmax(dim=1).numpy()}
    return arrays


@torch.no_grad()
def main() -> int:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--parts", type=Path, help="folder that `opentau parts` prints")
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    np.savez_compressed(parsed.file, **(of_parts(parsed.parts) if parsed.parts else of_random_weights()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
