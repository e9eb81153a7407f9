"""Writes GGUF files as llama.cpp does: facts, places, tensors, a Llama and its words among them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

F32, Q4_1, Q8_0 = 0, 3, 8
UINT32, FLOAT32, STRING, ARRAY = 4, 6, 8, 9
LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
MARKERS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
NUM_UNUSED = 1200
"""Words that nothing spells; a policy's action tokens take their place."""
MERGES = ["Ġ t", "h e", "Ġt he", "Ġ m", "i l", "il k", "Ġm ilk", "4 2"]


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def fact(value: Any) -> bytes:
    """Return a value behind its type; lists are of one type."""
    if isinstance(value, list):
        kind = struct.unpack("<I", fact(value[0])[:4])[0]
        return struct.pack("<IIQ", ARRAY, kind, len(value)) + b"".join(fact(each)[4:] for each in value)
    if isinstance(value, str):
        return struct.pack("<I", STRING) + text(value)
    return struct.pack("<If", FLOAT32, value) if isinstance(value, float) else struct.pack("<II", UINT32, value)


def write_gguf(path: Path, facts: Mapping[str, Any], tensors: Mapping[str, tuple[int, tuple[int, ...], bytes]]) -> Path:
    """Write tensors given by type, shape (as in torch) and bytes."""
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(facts))
    header += b"".join(text(name) + fact(value) for name, value in facts.items())
    data = b""
    for name, (kind, shape, stored) in tensors.items():
        dims = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        header += text(name) + dims + struct.pack("<IQ", kind, len(data))
        data += stored + b"\0" * (-len(stored) % 32)
    path.write_bytes(header + b"\0" * (-len(header) % 32) + data)
    return path


def plain(array: np.ndarray) -> tuple[int, tuple[int, ...], bytes]:
    return F32, array.shape, array.astype("<f4").tobytes()


def in_neighbours(weight: np.ndarray, *, head_dim: int) -> np.ndarray:
    """Return a query or key matrix as llama.cpp stores it: row i + D/2 of every head goes behind row i."""
    rows = [
        head * head_dim + half * (head_dim // 2) + index
        for head in range(len(weight) // head_dim)
        for index in range(head_dim // 2)
        for half in range(2)
    ]
    return weight[rows]


def byte_characters() -> list[str]:
    """Return the printable character of every byte, in GPT-2's order."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(byte) for byte in visible] + [chr(0x100 + rank) for rank in range(256 - len(visible))]


def words() -> dict[str, Any]:
    """Return the facts of byte-level words: three markers, all bytes, a few merges, and some that nothing spells."""
    tokens = MARKERS + byte_characters() + [merge.replace(" ", "") for merge in MERGES]
    tokens += [f"unused{number}" for number in range(NUM_UNUSED)]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if token in MARKERS else 1 for token in tokens],
        "tokenizer.ggml.merges": MERGES,
    }


def llama(
    path: Path, weights: Mapping[str, np.ndarray], *, depth: int, num_heads: int, num_kv_heads: int, **changes: Any
) -> Path:
    """Write a Llama, given by transformers' names, with the words of this file."""
    width = weights["model.norm.weight"].size
    facts = {
        "general.architecture": "llama",
        "llama.block_count": depth,
        "llama.embedding_length": width,
        "llama.attention.head_count": num_heads,
        "llama.attention.head_count_kv": num_kv_heads,
        "llama.feed_forward_length": weights["model.layers.0.mlp.up_proj.weight"].shape[0],
        "llama.rope.freq_base": 1e5,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
    }
    tensors = {
        "token_embd.weight": plain(weights["model.embed_tokens.weight"]),
        "output_norm.weight": plain(weights["model.norm.weight"]),
    }
    for layer in range(depth):
        for theirs, stored in LAYER.items():
            weight = weights[f"model.layers.{layer}.{theirs}.weight"]
            if stored in ("attn_q", "attn_k"):
                weight = in_neighbours(weight, head_dim=width // num_heads)
            tensors[f"blk.{layer}.{stored}.weight"] = plain(weight)
    return write_gguf(path, facts | words() | changes, tensors)


def random_llama(path: Path, *, seed: int = 0, **changes: Any) -> Path:
    """Write one of 32 numbers, two layers and all words of this file."""
    rng = np.random.default_rng(seed)
    shapes = {"q_proj": (32, 32), "k_proj": (16, 32), "v_proj": (16, 32), "o_proj": (32, 32)}
    names = {f"self_attn.{name}": shape for name, shape in shapes.items()}
    names |= {"mlp.gate_proj": (64, 32), "mlp.up_proj": (64, 32), "mlp.down_proj": (32, 64)}
    names |= {"input_layernorm": (32,), "post_attention_layernorm": (32,)}
    weights = {
        f"model.layers.{layer}.{name}.weight": 0.2 * rng.standard_normal(shape).astype(np.float32)
        for layer in range(2)
        for name, shape in names.items()
    }
    num_words = len(words()["tokenizer.ggml.tokens"])
    weights["model.embed_tokens.weight"] = 0.2 * rng.standard_normal((num_words, 32)).astype(np.float32)
    weights["model.norm.weight"] = rng.uniform(0.5, 1.5, 32).astype(np.float32)
    return llama(path, weights, depth=2, num_heads=4, num_kv_heads=2, **changes)
