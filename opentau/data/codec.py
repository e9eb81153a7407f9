"""The one place that turns states and actions into the numbers a model sees, and back; used by training and serving alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np

from opentau.data.statistics import DimStatistics, Statistics
from opentau.errors import DataError
from opentau.types import content_hash

# Shapes: S state dimensions, A action dimensions; leading axes are free.

CodecKind = Literal["quantile", "zscore", "affine"]

# A quantile width below this share of the full range is dominated by a few rare values (a gripper that seldom closes).
NARROW_SHARE = 0.01
# A spread below this share of the values' size (at least 1 unit) is rounding noise of a constant.
CONSTANT_SHARE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine:
    """The numbers of an encoding whose data is not at hand: encoded = (raw - offset) / scale, one of each per dimension."""

    offset: tuple[float, ...]
    scale: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.offset) != len(self.scale) or not all(0 < scale < float("inf") for scale in self.scale):
            raise DataError(
                f"an affine encoding needs a positive scale for each of its {len(self.offset)} offsets, got {self.scale}"
            )

    @property
    def dim(self) -> int:
        return len(self.offset)

    def to_dict(self) -> dict[str, Any]:
        return {"offset": list(self.offset), "scale": list(self.scale)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Affine:
        """Build from `to_dict`; unknown and missing keys are a `DataError`."""
        if set(plain) != {"offset", "scale"}:
            raise DataError(f"an affine encoding has the keys offset and scale, got {sorted(plain)}")
        return cls(offset=tuple(map(float, plain["offset"])), scale=tuple(map(float, plain["scale"])))


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """Affine encoding per dimension, in float32: 'quantile' maps [q01, q99] to [-1, 1], 'zscore' maps to mean 0, std 1.

    'affine' is given as offset and scale: that of a checkpoint from elsewhere, whose data is not at hand.

    Nothing is clipped, so that decoding inverts encoding everywhere. Two exceptions keep a scale from vanishing: where
    [q01, q99] is less than 1 % of [minimum, maximum], the full range takes its place, so that a rare but decisive value such
    as a closed gripper still encodes to ±1; a constant dimension is shifted to 0 and not scaled.
    """

    kind: CodecKind
    state: DimStatistics | Affine
    action: DimStatistics | Affine

    def __post_init__(self) -> None:
        if self.kind not in get_args(CodecKind):
            raise DataError(f"unknown codec {self.kind!r}; use one of {', '.join(get_args(CodecKind))}")
        for numbers in (self.state, self.action):
            if isinstance(numbers, Affine) != (self.kind == "affine"):
                raise DataError(f"a codec of kind {self.kind!r} cannot be made of {type(numbers).__name__}")

    @classmethod
    def from_statistics(cls, statistics: Statistics, *, kind: CodecKind = "quantile") -> Codec:
        return cls(kind=kind, state=statistics.state, action=statistics.action)

    @property
    def id(self) -> str:
        """Content hash: the policy's half of 'same statistics'."""
        return content_hash(self.to_dict())

    def encode_state(self, state: np.ndarray) -> np.ndarray:
        """Return float32 [..., S] from float32 [..., S] in the interface's units."""
        return _encode(state, self.state, kind=self.kind, what="state")

    def encode_action(self, action: np.ndarray) -> np.ndarray:
        """Return float32 [..., A] from float32 [..., A] in the interface's units."""
        return _encode(action, self.action, kind=self.kind, what="action")

    def decode_action(self, encoded: np.ndarray) -> np.ndarray:
        """Return float32 [..., A] in the interface's units."""
        _check_dim(encoded, self.action, what="encoded action")
        offset, scale = affine(self.action, kind=self.kind)
        return (encoded.astype(np.float64) * scale + offset).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "state": self.state.to_dict(), "action": self.action.to_dict()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Codec:
        """Build from `to_dict`; an unknown kind or damaged statistics raise `DataError`."""
        numbers = Affine if plain["kind"] == "affine" else DimStatistics
        return cls(
            kind=cast(CodecKind, plain["kind"]),
            state=numbers.from_dict(plain["state"]),
            action=numbers.from_dict(plain["action"]),
        )


def affine(statistics: DimStatistics | Affine, *, kind: CodecKind) -> tuple[np.ndarray, np.ndarray]:
    """Return (offset, scale), float64 [D], with encoded = (raw - offset) / scale and every scale above zero."""
    if isinstance(statistics, Affine):
        return np.array(statistics.offset), np.array(statistics.scale)
    low, high = np.array(statistics.minimum), np.array(statistics.maximum)
    size = np.maximum(1.0, np.maximum(np.abs(low), np.abs(high)))
    is_constant = high - low <= CONSTANT_SHARE * size
    if kind == "zscore":
        offset, scale = np.array(statistics.mean), np.array(statistics.std)
    else:
        q01, q99 = np.array(statistics.q01), np.array(statistics.q99)
        is_narrow = q99 - q01 < NARROW_SHARE * (high - low)
        q01, q99 = np.where(is_narrow, low, q01), np.where(is_narrow, high, q99)
        offset, scale = (q01 + q99) / 2, (q99 - q01) / 2
    return offset, np.where(is_constant, 1.0, scale)


def _encode(raw: np.ndarray, statistics: DimStatistics | Affine, *, kind: CodecKind, what: str) -> np.ndarray:
    _check_dim(raw, statistics, what=what)
    offset, scale = affine(statistics, kind=kind)
    return ((raw.astype(np.float64) - offset) / scale).astype(np.float32)


def _check_dim(array: np.ndarray, statistics: DimStatistics | Affine, *, what: str) -> None:
    if array.shape[-1] != statistics.dim:
        raise DataError(
            f"{what} has {array.shape[-1]} dimensions, the codec was fitted on {statistics.dim}; "
            "use the environment the policy was trained for, or train on this one"
        )
