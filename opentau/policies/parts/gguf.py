"""Reads GGUF, the file of llama.cpp: its facts and its tensors, which may be quantised, as numpy arrays."""

# Shapes: N blocks of a tensor, K numbers of a block.

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from opentau.errors import CheckpointError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
"""Of the format (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md); little-endian."""
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
ALIGNMENT_KEY, DEFAULT_ALIGNMENT = "general.alignment", 32
BLOCK = 32
"""Numbers that share a scale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How a tensor's numbers are stored."""

    name: str
    block: int
    """Numbers of a block."""
    dtype: np.dtype
    """Of a block."""
    decode: Callable[[np.ndarray], np.ndarray]
    """From stored blocks [N] to float32 [N, K]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    encoding: int
    shape: tuple[int, ...]
    offset: int


class Gguf:
    """An open file: `facts` by their names, and tensors on request."""

    def __init__(self, path: Path) -> None:
        """Read the header; a file that is none, or is cut off, raises `CheckpointError`."""
        self._path = path
        try:
            with path.open("rb") as file:
                self.facts, self._places, self._start = _header(file)
        except (OSError, struct.error, UnicodeDecodeError, KeyError, ValueError) as error:
            raise self._unreadable(f"{type(error).__name__}: {error}") from error

    @property
    def names(self) -> list[str]:
        return list(self._places)

    def tensor(self, name: str) -> np.ndarray:
        """Return a tensor, float32, its last dimension the one that lies together, as in torch.

        An absent one, one that is cut off, or an encoding that is not read, raises `CheckpointError`.
        """
        if name not in self._places:
            raise self._unreadable(f"it has no tensor {name}")
        place = self._places[name]
        if place.encoding not in ENCODINGS:
            known = ", ".join(encoding.name for encoding in ENCODINGS.values())
            raise self._unreadable(f"{name} is stored as type {place.encoding}; {known} are read")
        encoding = ENCODINGS[place.encoding]
        count, rest = divmod(math.prod(place.shape), encoding.block)
        start = self._start + place.offset
        if rest or start + count * encoding.dtype.itemsize > self._path.stat().st_size:
            raise self._unreadable(f"{name} does not fit into it")
        stored_N = np.fromfile(self._path, dtype=encoding.dtype, count=count, offset=start)
        return encoding.decode(stored_N).reshape(place.shape)

    def _unreadable(self, reason: str) -> CheckpointError:
        return CheckpointError(f"{self._path} cannot be read as GGUF: {reason}. Fetch the file again.")


def _header(file: BinaryIO) -> tuple[dict[str, Any], dict[str, _Place], int]:
    """Return the facts, where tensors lie, and where the first byte of all tensors is."""
    if (magic := file.read(4)) != MAGIC:
        raise ValueError(f"it begins with {magic!r}, not {MAGIC!r}")
    version, num_tensors, num_facts = _unpacked(file, "IQQ")
    if version not in VERSIONS:
        raise ValueError(f"its version is {version}; {VERSIONS} are read")
    facts = {}
    for _ in range(num_facts):
        name = _text(file)
        facts[name] = _value(file, *_unpacked(file, "I"))
    places = {}
    for _ in range(num_tensors):
        name = _text(file)
        (num_dims,) = _unpacked(file, "I")
        shape = _unpacked(file, f"{num_dims}Q")[::-1]
        encoding, offset = _unpacked(file, "IQ")
        places[name] = _Place(encoding=encoding, shape=shape, offset=offset)
    alignment = int(facts.get(ALIGNMENT_KEY, DEFAULT_ALIGNMENT))
    return facts, places, -(-file.tell() // alignment) * alignment


def _unpacked(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack("<" + form, file.read(struct.calcsize("<" + form)))


def _text(file: BinaryIO) -> str:
    (length,) = _unpacked(file, "Q")
    return file.read(length).decode()


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == STRING:
        return _text(file)
    if kind == ARRAY:
        inner, count = _unpacked(file, "IQ")
        if inner in SCALARS:
            return list(_unpacked(file, f"{count}{SCALARS[inner]}"))
        return [_value(file, inner) for _ in range(count)]
    return _unpacked(file, SCALARS[kind])[0]


def _scaled(stored_N: np.ndarray) -> np.ndarray:
    return stored_N["scale"].astype(np.float32)[:, None] * stored_N["numbers"]


def _scaled_halves(stored_N: np.ndarray) -> np.ndarray:
    """Every byte holds a number of the block's first half in its low bits, one of the second in its high ones."""
    numbers_NK = np.concatenate((stored_N["numbers"] & 0xF, stored_N["numbers"] >> 4), axis=1)
    return stored_N["scale"].astype(np.float32)[:, None] * numbers_NK + stored_N["lowest"].astype(np.float32)[:, None]


def _plain(stored_N: np.ndarray) -> np.ndarray:
    return stored_N.astype(np.float32)[:, None]


Q4_1 = np.dtype([("scale", "<f2"), ("lowest", "<f2"), ("numbers", "u1", BLOCK // 2)])
Q8_0 = np.dtype([("scale", "<f2"), ("numbers", "i1", BLOCK)])
ENCODINGS: Mapping[int, Encoding] = {
    0: Encoding(name="F32", block=1, dtype=np.dtype("<f4"), decode=_plain),
    1: Encoding(name="F16", block=1, dtype=np.dtype("<f2"), decode=_plain),
    3: Encoding(name="Q4_1", block=BLOCK, dtype=Q4_1, decode=_scaled_halves),
    8: Encoding(name="Q8_0", block=BLOCK, dtype=Q8_0, decode=_scaled),
}
"""By their numbers in the file (https://github.com/ggml-org/ggml/blob/master/include/ggml.h, ggml_type)."""
