"""SmolLM2 out of a GGUF file: weights under the names of our backbone, and its words as a `tokenizer.json`."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from opentau.errors import CheckpointError
from opentau.policies.parts.gguf import Gguf

ARCHITECTURE, WORDS_MODEL, SPLITTING = "llama", "gpt2", "smollm"
"""What the file must say of itself: a Llama whose words are byte-level BPE, digits apart."""
CONTROL = 3
"""Type of tokens that are markers and spell nothing."""
LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
NORMS = ("attn_norm", "ffn_norm")
WORDS, BACKBONE = "text_embedding.weight", "backbone"


def language_sizes(file: Gguf) -> dict[str, Any]:
    """Return the sizes of the transformer under the names of `TransformerConfig`; another kind raises `CheckpointError`."""
    facts = file.facts
    if facts.get("general.architecture") != ARCHITECTURE:
        raise CheckpointError(f"the language model is a {facts.get('general.architecture')!r}; {ARCHITECTURE!r} is read")
    width, heads = facts["llama.embedding_length"], facts["llama.attention.head_count"]
    return {
        "width": width,
        "depth": facts["llama.block_count"],
        "num_heads": heads,
        "num_kv_heads": facts["llama.attention.head_count_kv"],
        "head_dim": width // heads,
        "mlp_dim": facts["llama.feed_forward_length"],
        "rope_theta": facts["llama.rope.freq_base"],
        "norm_eps": float(f"{facts['llama.attention.layer_norm_rms_epsilon']:.6g}"),
    }


def language_weights(file: Gguf) -> dict[str, np.ndarray]:
    """Return the weights, float32, by the names of a policy: words, layers and the final norm."""
    sizes = language_sizes(file)
    weights = {WORDS: file.tensor("token_embd.weight"), f"{BACKBONE}.norm.weight": file.tensor("output_norm.weight") - 1}
    for layer in range(sizes["depth"]):
        for theirs, ours in LAYER_NAMES.items():
            weight = file.tensor(f"blk.{layer}.{theirs}.weight")
            if theirs in NORMS:
                weight = weight - 1  # our norms multiply by 1 + weight
            elif theirs in ("attn_q", "attn_k"):
                weight = in_halves(weight, head_dim=sizes["head_dim"])
            weights[f"{BACKBONE}.layers.{layer}.{ours}.weight"] = weight
    return weights


def in_halves(weight: np.ndarray, *, head_dim: int) -> np.ndarray:
    """Return a query or key matrix whose rows turn as pairs i, i + D/2 of each head, of one where neighbours do.

    llama.cpp stores Llama's matrices in the second order; rotary positions are in the first everywhere else.
    """
    pairs = weight.reshape(-1, head_dim // 2, 2, weight.shape[1])
    return pairs.swapaxes(1, 2).reshape(weight.shape)


def language_tokenizer(file: Gguf) -> str:
    """Return the words as the text of a `tokenizer.json`; another kind of them raises `CheckpointError`."""
    facts = file.facts
    found = (facts.get("tokenizer.ggml.model"), facts.get("tokenizer.ggml.pre"))
    if found != (WORDS_MODEL, SPLITTING):
        raise CheckpointError(f"the words of the language model are {found}; {(WORDS_MODEL, SPLITTING)} are read")
    tokens, kinds = facts["tokenizer.ggml.tokens"], facts["tokenizer.ggml.token_type"]
    marker = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    plain = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": index, "content": token, **marker} for index, token in enumerate(tokens) if kinds[index] == CONTROL
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in facts["tokenizer.ggml.merges"]],
        },
    }
    return json.dumps(plain, ensure_ascii=False)
