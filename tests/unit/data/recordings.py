"""Records small sound datasets as a robot would make them: an arm that integrates its actions, a gripper, two cameras."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from opentau.data.lerobot import layout
from opentau.data.lerobot.writer import DatasetWriter
from opentau.data.tools.check import check
from opentau.data.tools.findings import Finding
from opentau.types import Episode, Interface, Outcome, Source

HZ = 20
NUM_EPISODES, LENGTH = 8, 60
SHAPES = {"front": (24, 32, 3), "wrist": (16, 16, 3)}
GROUNDS = {"front": (200, 180, 160), "wrist": (60, 80, 100)}

Columns = dict[str, Any]
Change = Callable[[int, Columns], None]


def interface_of(**changes: Any) -> Interface:
    plain = {
        "cameras": SHAPES,
        "state_names": ("x", "y", "z", "gripper"),
        "state_units": ("m", "m", "m", "m"),
        "action_names": ("dx", "dy", "dz", "gripper"),
        "action_units": ("0.05 m", "0.05 m", "0.05 m", "-1 open, 1 close"),
        "action_space": "delta_ee",
        "control_hz": float(HZ),
    }
    return Interface(**{**plain, **changes})


def columns_of(index: int, length: int = LENGTH, *, shapes: Mapping[str, tuple[int, int, int]] = SHAPES) -> Columns:
    """Return state, action and images of an episode: actions wander smoothly, the gripper follows its command."""
    rng = np.random.default_rng(index)
    action = np.zeros((length, 4))
    for tick in range(1, length):
        action[tick, :3] = 0.85 * action[tick - 1, :3] + 0.4 * rng.normal(size=3)
    action[:, 3] = np.where((np.arange(length) + 3 * index) // 15 % 2, 1.0, -1.0)
    state = np.zeros((length, 4))
    state[0] = [*rng.normal(size=3) * 0.1, 0.04]
    for tick in range(1, length):
        state[tick, :3] = state[tick - 1, :3] + 0.05 * action[tick - 1, :3]
        state[tick, 3] = 0.6 * state[tick - 1, 3] + 0.4 * (0.04 if action[tick - 1, 3] < 0 else 0.0)
    images = {camera: _drawn(camera, shape, state) for camera, shape in shapes.items()}
    return {"state": state.astype(np.float32), "action": action.astype(np.float32), "images": images}


def _drawn(camera: str, shape: tuple[int, int, int], state: np.ndarray) -> np.ndarray:
    """Return frames on which a square follows the arm, its shade the height."""
    frames = np.empty((len(state), *shape), np.uint8)
    frames[:] = GROUNDS[camera]
    for frame, (x, y, z, _) in zip(frames, state, strict=True):
        top, left = (int(np.clip(0.5 + 0.3 * place, 0, 0.8) * side) for place, side in zip((y, x), shape, strict=False))
        frame[top : top + 5, left : left + 5] = (int(np.clip(128 + 60 * z, 0, 255)), 40, 90)
    return frames


def episode_of(index: int, columns: Columns, **constants: Any) -> Episode:
    length = len(columns["state"])
    made = {
        "policy_action": columns["action"],
        "executed_action": columns["action"],
        "source": np.full(length, Source.DEMONSTRATION, np.int8),
        "reward": np.zeros(length, np.float32),
        "value": np.full(length, np.nan, np.float32),
        "sim_state": np.zeros((length, 0)),
        "prompt": "stack the cups",
        "task_id": "cups/0",
        "outcome": Outcome.SUCCESS,
        "seed": index,
        "episode_id": f"demonstrations/{index:06d}",
        "env_id": "cups",
        "policy_version": "",
    }
    return Episode(**{**made, **columns, **constants})


def record(root: Path, *, change: Change | None = None, num_episodes: int = NUM_EPISODES, **interface: Any) -> Path:
    """Record a dataset, `change` damaging the columns of an episode before."""
    made = interface_of(**interface)
    writer = DatasetWriter(root, interface=made, fps=HZ, robot_type="arm", env_id="cups")
    for index in range(num_episodes):
        columns = columns_of(index, shapes=made.cameras)
        if change:
            change(index, columns)
        writer.add(index, episode_of(index, columns))
    writer.finish()
    return root


def edit(root: Path, episode: int, column: str, change: Callable[[np.ndarray], Any]) -> None:
    """Rewrite one column of a recorded episode's file: `change` gets its numbers, [T] or [T, D]."""
    path = root / layout.data_path(episode)
    table = pq.read_table(path)
    place = table.schema.get_field_index(column)
    field = table.field(place)
    rows = change(np.array(table[column].to_pylist()))
    values = pa.array(rows.tolist(), field.type)
    pq.write_table(table.set_column(place, field, values), path)


def findings_of(root: Path, *, with_pixels: bool = True) -> tuple[Finding, ...]:
    return check(root, with_pixels=with_pixels, on_episode=lambda done, total: None).findings


def only(root: Path, code: str, *, with_pixels: bool = True) -> Finding:
    """Return the one finding of a dataset, which must have the code."""
    found = findings_of(root, with_pixels=with_pixels)
    assert [finding.code for finding in found] == [code], [finding.text for finding in found]
    assert found[0].fix
    return found[0]
