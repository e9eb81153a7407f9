"""The files of an emulated SO-101: calibration, emulator, limits and the station's yaml, as a real arm has them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from opentau.types import EpisodePlan, Outcome, derive_seed
from robot_bridge.robots.calibration import GRIPPER, JOINTS
from robot_bridge.robots.emulator_control import EmulatorClient

DEG_S, DEG_S2, PERCENT_S, PERCENT_S2 = 180.0, 1_800.0, 250.0, 2_500.0
"""Limits of the joints and of the gripper."""
MARGIN = 0.01
"""Part of a joint's range that the limits keep away from its stops."""
PATIENCE_S = 3.0
"""Age of a reading that is borne: an emulator on a busy machine is slower than a camera."""
REPLY_TIMEOUT_S = 0.1
ASKED_EVERY_TICKS = 5


def twin_limits(ranges_rad: np.ndarray, start_rad: Sequence[float]) -> dict[str, Any]:
    """Return `robot_bridge.workcell.limits.Limits` as plain data: the joints' ranges less a margin, and the start pose."""
    axes, start = {}, {}
    for joint, (low, high), angle in zip(JOINTS, ranges_rad, start_rad, strict=True):
        name, margin = f"{joint}.pos", MARGIN * (high - low)
        if joint == GRIPPER:
            axes[name] = {"low": 0.0, "high": 100.0, "velocity": PERCENT_S, "acceleration": PERCENT_S2}
            start[name] = round(100.0 * float((angle - low) / (high - low)), 2)
        else:
            ends = {"low": math.degrees(low + margin), "high": math.degrees(high - margin)}
            axes[name] = {**{end: round(value, 2) for end, value in ends.items()}, "velocity": DEG_S, "acceleration": DEG_S2}
            start[name] = round(math.degrees(angle), 2)
    return {"axes": axes, "start_pose": start, "safe_pose": start, "max_reading_age_s": PATIENCE_S}


def write_emulator(folder: Path, *, plant: dict[str, Any], seed: int = 0) -> Path:
    """Write the yaml of an emulator that dies with this process into a folder, and return it."""
    spec = {
        "plant": plant,
        "link": str(folder / "port"),
        "write_calibration": str(folder / "calibration.json"),
        "seed": seed,
        "parent_pid": os.getpid(),
    }
    path = folder / "emulator.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


def write_workcell(
    folder: Path,
    *,
    control: str,
    camera: str,
    image_size: int,
    limits: dict[str, Any],
    tasks: dict[str, Any],
    corrector: dict[str, Any] | None = None,
) -> Path:
    """Write limits and the station's yaml into a folder, for the emulator that answers at `control`; return the latter.

    `corrector`: arguments of the `ExpertTeleop` that stands in for a human who corrects; None for nobody.
    """
    (folder / "limits.yaml").write_text(yaml.safe_dump(limits, sort_keys=False))
    source = {"control": control, "camera": camera, "width": image_size, "height": image_size}
    workcell: dict[str, Any] = {
        "robot": {
            "target": "robot_bridge.robots.so101:So101Follower",
            "args": {
                "port": str(folder / "port"),
                "calibration": str(folder / "calibration.json"),
                "max_image_age_s": PATIENCE_S,
                "reply_timeout_s": REPLY_TIMEOUT_S,
                "cameras": {camera: {"target": "robot_bridge.robots.cameras:EmulatedCamera", "args": source}},
            },
        },
        "operator": {"target": "robot_bridge.robots.twin:TwinOperator", "args": {"control": control}},
        "limits": "limits.yaml",
        "chunking": {"mode": "blend"},  # which asks nothing of the policy
        "tasks": tasks,
    }
    if corrector is not None:
        args = {"control": control, **corrector}
        workcell["teleop"] = {"target": "robot_bridge.teleops.expert:ExpertTeleop", "args": args}
    path = folder / "robot.yaml"
    path.write_text(yaml.safe_dump(workcell, sort_keys=False))
    return path


class TwinOperator:
    """A scripted person at an emulated arm: sets its scene up by the episode's seed and sees when it succeeded."""

    def __init__(self, *, control: str) -> None:
        """`control`: endpoint of the emulator's control socket."""
        self._client = EmulatorClient(control)

    def prepare(self, plan: EpisodePlan) -> bool:
        self._client.ask("reset", seed=derive_seed(plan.seed, "env") % (1 << 31))
        return True

    def verdict(self, plan: EpisodePlan, *, tick: int) -> Outcome | None:
        if tick % ASKED_EVERY_TICKS or not self._client.ask("is_success"):
            return None
        return Outcome.SUCCESS


def announced(line: str) -> str:
    """Return the control endpoint that a starting emulator announced."""
    return str(json.loads(line)["control"])
