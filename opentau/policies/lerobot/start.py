"""Where the training of a policy of LeRobot's starts: fresh weights of a kind that LeRobot knows, or one of its folders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentau.policies.lerobot.folder import LeRobotFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class LeRobotStart:
    """What LeRobot's trainer is given of the policy."""

    type: str
    options: Mapping[str, Any]
    """LeRobot's own options of the policy, by name."""
    checkpoint: Path | None
    """Where weights come from; None for fresh ones."""
    checkpoint_id: str | None
    camera_names: Mapping[str, str]
    device: str
    python: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return what a training depends on."""
        return {"type": self.type, "options": dict(self.options), "checkpoint": self.checkpoint_id, "device": self.device}


def lerobot(
    *,
    cameras: tuple[str, ...],
    state_dim: int,
    action_dim: int,
    type: str = "act",
    checkpoint: str | None = None,
    options: Mapping[str, Any] | None = None,
    camera_names: Mapping[str, str] | None = None,
    device: str = "cpu",
    python: str | None = None,
) -> LeRobotStart:
    """Return a start for LeRobot's trainer; cameras and dimensions are those of the data, which LeRobot reads itself.

    `checkpoint`: a folder of LeRobot's; its kind then stands above `type`. Raises `CheckpointError` for anything else.
    """
    folder = LeRobotFolder.read(Path(checkpoint).expanduser()) if checkpoint else None
    return LeRobotStart(
        type=folder.type if folder else type,
        options=dict(options or {}),
        checkpoint=folder.path if folder else None,
        checkpoint_id=folder.id if folder else None,
        camera_names=dict(camera_names or {}),
        device=device,
        python=python,
    )
