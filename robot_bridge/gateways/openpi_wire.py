"""openpi's messages: one MessagePack map a websocket frame, arrays as maps of bytes, dtype and shape; read strictly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from opentau.errors import LinkError

# An array is {b"__ndarray__": True, b"data": bytes, b"dtype": numpy's string, b"shape": [...]}, a numpy scalar
# {b"__npgeneric__": True, b"data": its value, b"dtype": ...}, with byte strings as keys (openpi-client 0.1.2).
ARRAY, SCALAR = b"__ndarray__", b"__npgeneric__"

MAX_BYTES = 1 << 26
MAX_DIMS = 5
DTYPES = frozenset(np.dtype(name).str for name in ("uint8", "int8", "int32", "int64", "float16", "float32", "float64", "bool"))


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPiNames:
    """What one side calls cameras, state and prompt in an observation."""

    cameras: Mapping[str, str]
    """Camera of ours to the key of its image, uint8 [Y, X, 3]."""
    state: str = "observation/state"
    prompt: str = "prompt"
    is_mirrored: bool = False
    """Whether images are mirrored left to right: openpi's LIBERO policies see them so (rotated by 180° out of MuJoCo)."""


def pack(plain: Mapping[str, Any]) -> bytes:
    """Return the bytes of a map of plain values and arrays."""
    return msgspec.msgpack.encode({key: _packable(value) for key, value in plain.items()})


def unpack(data: bytes) -> dict[str, Any]:
    """Return a map of plain values and read-only arrays; raises `LinkError` and nothing else."""
    if len(data) > MAX_BYTES:
        raise LinkError(f"a message of {len(data)} bytes was refused; the limit is {MAX_BYTES}")
    try:
        plain = msgspec.msgpack.decode(data)
    except (ValueError, RecursionError, TypeError) as error:
        raise LinkError(f"a message was refused: it is no MessagePack ({error})") from error
    if not isinstance(plain, dict) or not all(isinstance(key, str) for key in plain):
        raise LinkError("a message was refused: openpi's are maps with names as keys")
    return {key: _unpacked(key, value) for key, value in plain.items()}


def array(plain: Mapping[str, Any], key: str, *, dtype: str, num_dims: int) -> np.ndarray:
    """Return an array of an observation or answer; raises `LinkError` where it is missing or misshapen."""
    value = plain.get(key)
    if not isinstance(value, np.ndarray):
        raise LinkError(f"a message without the array {key!r} was refused; it brings {sorted(plain)}")
    if value.ndim != num_dims or not np.can_cast(value.dtype, dtype, casting="same_kind"):
        raise LinkError(f"array {key!r} is {value.dtype} {value.shape}; it must be {dtype} with {num_dims} dimensions")
    return np.ascontiguousarray(value, dtype)


def _packable(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        contiguous = np.ascontiguousarray(value)
        return {
            ARRAY: True,
            b"data": contiguous.reshape(-1).view(np.uint8).data,
            b"dtype": value.dtype.str,
            b"shape": list(value.shape),
        }
    if isinstance(value, Mapping):
        return {key: _packable(item) for key, item in value.items()}
    return value.item() if isinstance(value, np.generic) else value


def _unpacked(name: str, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if SCALAR in value:
        return value.get(b"data")
    return _array(name, value) if ARRAY in value else value


def _array(name: str, value: Mapping[bytes, Any]) -> np.ndarray:
    data, dtype, shape = value.get(b"data"), value.get(b"dtype"), value.get(b"shape")
    if not isinstance(data, bytes) or dtype not in DTYPES or not isinstance(shape, list) or len(shape) > MAX_DIMS:
        raise LinkError(f"array {name!r} was refused: dtype {dtype!r}, shape {shape!r}; allowed are {sorted(DTYPES)}")
    if not all(isinstance(size, int) and size >= 0 for size in shape):
        raise LinkError(f"array {name!r} was refused: its shape is {shape!r}")
    if math.prod(shape) * np.dtype(dtype).itemsize != len(data):
        raise LinkError(f"array {name!r} of shape {shape} and {dtype} brings {len(data)} bytes")
    try:
        return np.frombuffer(data, dtype).reshape(shape)
    except ValueError as error:  # no bytes, but dimensions beyond what numpy can index
        raise LinkError(f"array {name!r} has the shape {shape}, which no array can have") from error
