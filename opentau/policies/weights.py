"""A policy on disk: weights, configuration, codec and tokenizers in one directory that `opentau.checkpoint` seals."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from opentau.checkpoint import storage_errors
from opentau.errors import CheckpointError
from opentau.policies.pretrained import Pretrained
from opentau.policies.processor import TEXT_FILE, Processor
from opentau.policies.published_tokenizer import PublishedTokenizer, read_tokenizer
from opentau.policies.text_tokenizer import TextTokenizer
from opentau.policies.vla import VLA

WEIGHTS_FILE = "model.safetensors"
INDICATOR = "expert.indicator_embedding.weight"
"""The only weights that a policy may have beyond those of the checkpoint it starts from."""
MAX_ROWS = 20
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""What a safetensors file calls them (https://github.com/huggingface/safetensors#format)."""
HEADER_ALIGNMENT = 8
"""Bytes; the header is filled up with spaces."""


def save_policy(directory: Path, *, model: VLA, processor: Processor) -> None:
    """Write everything that serving and further training need into an existing directory."""
    save_weights(directory / WEIGHTS_FILE, model.state_dict())
    with storage_errors(directory):
        processor.save(directory)


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write tensors as one safetensors file, one after another, without a copy of all; a full disk is a `StorageError`.

    The library's own writers either copy everything first, or give a file that only its owner may read and a full disk as an
    error without a number.
    """
    ordered = sorted(weights.items(), key=lambda item: (-item[1].element_size(), item[0]))
    header, end = {}, 0
    for name, tensor in ordered:
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % HEADER_ALIGNMENT)
    with storage_errors(path), path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in ordered:
            file.write(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)


def load_model(directory: Path) -> tuple[VLA, Processor]:
    """Read what `save_policy` wrote, onto the CPU.

    Missing, truncated or foreign files raise `CheckpointError`; weights that do not fit are listed in a table.
    """
    processor = Processor.load(directory)
    path = directory / WEIGHTS_FILE
    weights = load_weights(path)
    with torch.device("meta"):
        model = VLA(processor.config)
    require_same_weights(weights, wanted=model.state_dict(), source=str(path))
    model.load_state_dict(weights, assign=True)
    return model, processor


def start_model(start: Pretrained, *, seed: int) -> tuple[VLA, TextTokenizer | PublishedTokenizer]:
    """Return the model that training starts from and the words it reads; weights that do not fit are listed in a table.

    What the start calls fresh is a function of the seed, everything else is the checkpoint's. The indicator's embedding is zero
    where the checkpoint has none, which is no indicator; one that is not wanted is left out.
    """
    if start.fresh:
        model = VLA.create(start.config, seed=seed)
    else:
        with torch.device("meta"):
            model = VLA(start.config)
    wanted = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if not any(fnmatchcase(name, pattern) for pattern in start.fresh)
    }
    # A checkpoint of parts holds more than one policy takes of it.
    weights = load_weights(start.checkpoint / WEIGHTS_FILE, names=wanted if start.fresh else None)
    if INDICATOR in wanted:
        weights.setdefault(INDICATOR, torch.zeros(wanted[INDICATOR].shape))
    else:
        weights.pop(INDICATOR, None)
    require_same_weights(weights, wanted=wanted, source=str(start.checkpoint))
    if start.fresh:
        model.load_state_dict(weights, strict=False)
    else:
        model.load_state_dict(weights, assign=True)
    text = (start.checkpoint / TEXT_FILE).read_text(encoding="utf-8")
    return model, read_tokenizer(text, config=start.config)


def load_weights(path: Path, *, names: Collection[str] | None = None) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, or those of some names; a missing or truncated one raises `CheckpointError`."""
    try:
        # Copies lie on the allocator's boundaries; in a file they do not, and there equal weights give other last bits.
        if names is None:
            return {name: tensor.clone() for name, tensor in load_file(path).items()}
        with safe_open(path, framework="pt") as file:
            held = set(file.keys())
            return {name: file.get_tensor(name).clone() for name in names if name in held}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}. The file is missing or truncated; fetch the checkpoint again, "
            "or use another one of the run."
        ) from error


def require_same_weights(weights: Mapping[str, Tensor], *, wanted: Mapping[str, Tensor], source: str) -> None:
    """Raise `CheckpointError` with a table of names and shapes unless the weights are exactly the wanted ones."""
    rows = [
        f"  {name:60} {_shape(wanted.get(name)):>20} {_shape(weights.get(name)):>20}"
        for name in sorted(set(wanted) | set(weights))
        if _shape(wanted.get(name)) != _shape(weights.get(name))
    ]
    if rows:
        header = f"  {'name':60} {'the model needs':>20} {'the file has':>20}"
        more = [f"  … and {len(rows) - MAX_ROWS} more"] if len(rows) > MAX_ROWS else []
        raise CheckpointError(
            "\n".join([f"{source} does not hold the weights of its configuration:", header, *rows[:MAX_ROWS], *more])
            + "\nUse the config.json that was saved with these weights."
        )


def _shape(tensor: Tensor | None) -> str:
    return "—" if tensor is None else str(list(tensor.shape))
