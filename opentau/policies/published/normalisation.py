"""How published policies scale states and actions, as offset and scale of every dimension."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from opentau.data.codec import Affine, Codec
from opentau.errors import CheckpointError

# Shapes: D dimensions of a feature, R datasets that a policy was trained on.

STATE, ACTION = "observation.state", "action"
LEROBOT_EPS, OPENPI_EPS = 1e-8, 1e-6
"""What each adds to a width or a deviation; LeRobot only to widths that are zero."""
PREPROCESSOR = "policy_preprocessor.json"
NORMALIZER = "normalizer_processor"
MODES = ("QUANTILES", "MEAN_STD", "MIN_MAX", "IDENTITY")
TENSORAUTO_STATE, TENSORAUTO_ACTION = "normalize_inputs.buffer_state", "normalize_targets.buffer_actions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One feature's statistics, float64 [D] each, by their names in the file."""

    name: str
    numbers: Mapping[str, np.ndarray]
    dim: int

    def scaled(self, mode: str, *, eps: float, is_added: bool) -> Affine:
        """Return the encoding under a mode; `is_added` adds `eps` to every width, else only to those that are zero."""
        if mode == "IDENTITY":
            return _affine(np.zeros(self.dim), np.ones(self.dim))
        if mode == "MEAN_STD":
            mean, std = self._get("mean"), self._get("std")
            return _affine(mean, std + eps)
        if mode not in MODES:
            raise CheckpointError(f"{self.name} is scaled by {mode}, which is not known here; known are {', '.join(MODES)}")
        low, high = (self._get(name) for name in (("q01", "q99") if mode == "QUANTILES" else ("min", "max")))
        width = high - low
        width = width + eps if is_added else np.where(width == 0, eps, width)
        return _affine(low + width / 2, width / 2)

    def _get(self, statistic: str) -> np.ndarray:
        if statistic not in self.numbers:
            raise CheckpointError(
                f"the statistics of {self.name} have no {statistic}, they have {', '.join(sorted(self.numbers))}; "
                "the checkpoint's processor files do not belong to it"
            )
        found = self.numbers[statistic]
        if found.shape != (self.dim,):
            raise CheckpointError(
                f"{statistic} of {self.name} has the shape {found.shape}, the policy has {self.dim} dimensions; "
                "the checkpoint's processor files do not belong to it"
            )
        return found


def lerobot_codec(folder: Path, *, state_dim: int, action_dim: int) -> Codec | None:
    """Return the scaling that `policy_preprocessor.json` of a LeRobot checkpoint describes, None where it has no statistics."""
    path = folder / PREPROCESSOR
    described = _read_json(path)
    steps = [step for step in described.get("steps", ()) if step.get("registry_name") == NORMALIZER]
    if len(steps) != 1:
        raise CheckpointError(f"{path} has {len(steps)} steps {NORMALIZER}, exactly one is needed")
    if not steps[0].get("state_file"):
        return None
    stored = _statistics(folder / str(steps[0]["state_file"]))
    modes = steps[0]["config"]["norm_map"]
    eps = float(steps[0]["config"].get("eps", LEROBOT_EPS))

    def encoding(name: str, kind: str, dim: int) -> Affine:
        numbers = {key.removeprefix(f"{name}."): value for key, value in stored.items() if key.startswith(f"{name}.")}
        mode = modes.get(kind, "IDENTITY")
        return Feature(name=name, numbers=numbers, dim=dim).scaled(mode, eps=eps, is_added=False)

    return _codec(encoding(STATE, "STATE", state_dim), encoding(ACTION, "ACTION", action_dim))


def openpi_codec(path: Path, *, is_quantile: bool) -> Codec:
    """Return the scaling of an openpi `norm_stats.json`; π0.5 goes by quantiles, π0 by mean and deviation."""
    described = _read_json(path)
    statistics = described.get("norm_stats", described)
    mode = "QUANTILES" if is_quantile else "MEAN_STD"

    def encoding(name: str) -> Affine:
        if name not in statistics:
            raise CheckpointError(f"{path} has no statistics of {name}; it has {', '.join(sorted(statistics))}")
        numbers = {key: np.array(value, np.float64) for key, value in statistics[name].items() if value is not None}
        feature = Feature(name=name, numbers=numbers, dim=len(next(iter(numbers.values()))))
        return feature.scaled(mode, eps=OPENPI_EPS, is_added=True)

    return _codec(encoding("state"), encoding("actions"))


def tensorauto_codec(buffers: Mapping[str, np.ndarray], *, dataset: int | None) -> Codec:
    """Return the scaling that lies among the weights of a TensorAuto OpenTau checkpoint, [R, D] each, of one dataset.

    A deviation of zero counts as one there.
    """

    def encoding(prefix: str) -> Affine:
        found = {name: buffers.get(f"{prefix}.{name}") for name in ("mean", "std")}
        if found["mean"] is None or found["std"] is None:
            raise CheckpointError(f"the checkpoint has no {prefix}.mean and .std; other scalings of it are not known here")
        rows = {name: np.atleast_2d(array.astype(np.float64)) for name, array in found.items() if array is not None}
        count = len(rows["mean"])
        if count > 1 and dataset is None:
            raise CheckpointError(f"the checkpoint was trained on {count} datasets; choose one with --dataset 0 to {count - 1}")
        if not 0 <= (dataset or 0) < count:
            raise CheckpointError(f"--dataset is {dataset}, the checkpoint has {count}")
        mean, std = rows["mean"][dataset or 0], rows["std"][dataset or 0]
        return _affine(mean, np.where(np.abs(std) < LEROBOT_EPS, 1.0, std + LEROBOT_EPS))

    return _codec(encoding(TENSORAUTO_STATE), encoding(TENSORAUTO_ACTION))


def unscaled(*, state_dim: int, action_dim: int) -> Codec:
    """Return the scaling of a checkpoint without statistics, which leaves numbers as they are."""
    return _codec(
        *(Feature(name="", numbers={}, dim=dim).scaled("IDENTITY", eps=0, is_added=False) for dim in (state_dim, action_dim))
    )


def _codec(state: Affine, action: Affine) -> Codec:
    return Codec(kind="affine", state=state, action=action)


def _affine(offset: np.ndarray, scale: np.ndarray) -> Affine:
    if not (np.isfinite(offset).all() and np.isfinite(scale).all()):
        raise CheckpointError("the statistics of the checkpoint are not finite; it was saved before it had any")
    return Affine(offset=tuple(map(float, offset)), scale=tuple(map(float, scale)))


def _statistics(path: Path) -> dict[str, np.ndarray]:
    try:
        return {name: array.astype(np.float64) for name, array in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}. It is missing or truncated; fetch the checkpoint again, with all its files."
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}. Fetch the checkpoint again, with all its files.") from error
    if not isinstance(plain, dict):
        raise CheckpointError(f"{path} holds no object; fetch the checkpoint again")
    return plain
