"""A policy folder of LeRobot's, read without LeRobot: what it wants to see, what it answers with, and whom that fits."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentau.checkpoint import MANIFEST, file_sha256, read_manifest
from opentau.errors import CheckpointError, InterfaceMismatch, OptionError, near_matches
from opentau.types import Interface, content_hash, require_same_interface

CONFIG_FILE = "config.json"
INTERFACE_FILE = "opentau_interface.json"
"""Beside policies that were trained here: the robot that they were trained for, with units and rate."""
FEATURES = ("input_features", "output_features")
STATE, ACTION = "observation.state", "action"
OFFERED = "of these options"
"""What errors call the robot that a policy is compared with."""
IMAGE_PREFIXES = ("observation.images.", "observation.")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeRobotFolder:
    """What config.json says of a policy."""

    path: Path
    id: str
    """Of the manifest where there is one, else of the files."""
    type: str
    """LeRobot's name of the kind: 'act', 'diffusion', 'smolvla' …"""
    cameras: Mapping[str, tuple[int, int, int]]
    """LeRobot's key to (Y, X, 3)."""
    state_dim: int | None
    """None for a policy that sees no state."""
    action_dim: int
    recorded: Interface | None
    """What it was trained for, where that is written beside it."""

    @classmethod
    def read(cls, path: Path) -> LeRobotFolder:
        """Read a folder; raises `CheckpointError` for one that is none of LeRobot's or wants to see what no request brings."""
        config = _config(path)
        if not _is_lerobots(config):
            raise CheckpointError(f"{path} is no policy of LeRobot's: its {CONFIG_FILE} names no type or no features")
        try:
            inputs = {key: (each["type"], tuple(map(int, each["shape"]))) for key, each in config["input_features"].items()}
            (action_dim,) = map(int, config["output_features"][ACTION]["shape"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"{path / CONFIG_FILE} does not tell the policy's features: {error!r}") from error
        cameras = {
            key: (shape[1], shape[2], 3) for key, (kind, shape) in inputs.items() if kind == "VISUAL" and len(shape) == 3
        }
        unknown = sorted(set(inputs) - set(cameras) - {STATE})
        if unknown:
            raise CheckpointError(f"{path} wants to see {', '.join(unknown)}; a request brings images, a state and a prompt")
        return cls(
            path=path,
            id=_id(path),
            type=str(config["type"]),
            cameras=cameras,
            state_dim=inputs[STATE][1][0] if STATE in inputs else None,
            action_dim=action_dim,
            recorded=_recorded(path),
        )

    def fit(self, offered: Interface, *, camera_names: Mapping[str, str] | None = None) -> tuple[Interface, dict[str, str]]:
        """Return the part of a robot's interface that the policy uses, and LeRobot's key of each of its cameras.

        `camera_names`: camera of the policy to camera of the robot, where they differ. Raises `OptionError` for a camera that
        is not there and `InterfaceMismatch` for other shapes, dimensions or, where they are known, units and rate.
        """
        renamed = dict(camera_names or {})
        own = {camera_name(key): key for key in self.cameras}
        for name in renamed:
            if name not in own:
                raise OptionError(f"policy.args.camera_names: the policy has no camera {name!r}.{near_matches(name, own)}")
        keys = {renamed.get(name, name): key for name, key in own.items()}
        missing = sorted(set(keys) - set(offered.cameras))
        if missing or len(keys) < len(own):
            raise OptionError(
                f"{self.path} looks through the cameras {sorted(own)}, the robot has {sorted(offered.cameras)}. Say which is "
                "which: policy.args.camera_names={policy's camera: robot's camera}"
            )
        rows: list[tuple[str, Any, Any]] = [
            (f"camera {name}", list(self.cameras[key]), list(offered.cameras[name]))
            for name, key in keys.items()
            if self.cameras[key] != tuple(offered.cameras[name])
        ]
        if self.state_dim not in (None, offered.state_dim):
            rows.append(("state dimensions", self.state_dim, offered.state_dim))
        if self.action_dim != offered.action_dim:
            rows.append(("action dimensions", self.action_dim, offered.action_dim))
        if rows:
            raise InterfaceMismatch(station_id=OFFERED, rows=rows)
        used = dataclasses.replace(offered, cameras={name: offered.cameras[name] for name in keys})
        if self.recorded is not None:
            wanted = dataclasses.replace(self.recorded, cameras=used.cameras)  # compared above
            require_same_interface(policy=wanted, station=used, station_id=OFFERED)
        return used, keys


def is_lerobot_folder(path: Path) -> bool:
    """Return whether a folder holds a policy in LeRobot's layout."""
    return (path / CONFIG_FILE).is_file() and _is_lerobots(_config(path))


def camera_name(key: str) -> str:
    """Return what LeRobot's key of a camera is called without its prefix."""
    for prefix in IMAGE_PREFIXES:
        if key.startswith(prefix):
            return key.removeprefix(prefix)
    return key


def write_interface(folder: Path, interface: Interface) -> None:
    """Write down for which robot a policy was trained."""
    (folder / INTERFACE_FILE).write_text(json.dumps(interface.to_dict(), indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _config(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((path / CONFIG_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path / CONFIG_FILE} cannot be read: {error}. Name a folder that holds a policy.") from error


def _is_lerobots(config: Mapping[str, Any]) -> bool:
    return isinstance(config.get("type"), str) and all(isinstance(config.get(name), dict) for name in FEATURES)


def _recorded(path: Path) -> Interface | None:
    if not (path / INTERFACE_FILE).is_file():
        return None
    try:
        return Interface.from_dict(json.loads((path / INTERFACE_FILE).read_text(encoding="utf-8")))
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path / INTERFACE_FILE} is damaged: {error}. Delete the folder and train again.") from error


def _id(path: Path) -> str:
    if (path / MANIFEST).is_file():
        return str(read_manifest(path, verify=True)["id"])
    return content_hash({file.name: file_sha256(file) for file in sorted(path.iterdir()) if file.is_file()})
