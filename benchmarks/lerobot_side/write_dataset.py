"""Write a small dataset with LeRobot: two cameras as video, one as images, and files that roll over after an episode or two."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset

FPS = 10
EPISODES = ((12, "stack the cups"), (30, "räume den Tisch auf"), (7, "stack the cups"), (20, "wave"), (1, "wave"), (9, "wave"))
"""Frames and task of every episode."""
CAMERAS = {"front": ("video", (64, 64, 3)), "wrist": ("video", (64, 96, 3)), "top": ("image", (48, 64, 3))}
"""How every camera is stored, and its shape."""
STATE_DIM, ACTION_DIM = 8, 7
FILE_MB = 0.01
"""So small that every feature has several files, some of them with several episodes."""


def features() -> dict[str, dict]:
    """Return LeRobot's features; `names` takes both forms that are in use."""
    cameras = {
        f"observation.images.{name}": {"dtype": dtype, "shape": shape, "names": ["height", "width", "channels"]}
        for name, (dtype, shape) in CAMERAS.items()
    }
    state = {"dtype": "float32", "shape": (STATE_DIM,), "names": [f"joint_{dim}" for dim in range(STATE_DIM)]}
    action = {"dtype": "float32", "shape": (ACTION_DIM,), "names": {"motors": [f"motor_{dim}" for dim in range(ACTION_DIM)]}}
    return {**cameras, "observation.state": state, "action": action}


def picture(shape: tuple[int, int, int], *, episode: int, tick: int) -> np.ndarray:
    """Return a slanted pattern whose brightness tells frames and episodes apart, also after compression."""
    rows, columns, _ = shape
    slant = np.add.outer(np.arange(rows), np.arange(columns))[..., None] + np.array([0, 20, 40])
    return ((slant + 8 * tick + 80 * episode) % 256).astype(np.uint8)


def main() -> int:
    """Write the dataset into a folder that does not exist yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, help="the folder to make")
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    dataset = LeRobotDataset.create(
        "local/dataset",
        fps=FPS,
        features=features(),
        root=parsed.root,
        robot_type="pattern",
        video_files_size_in_mb=FILE_MB,
        data_files_size_in_mb=FILE_MB,
    )
    for episode, (num_frames, task) in enumerate(EPISODES):
        for tick in range(num_frames):
            pictures = {
                f"observation.images.{name}": picture(shape, episode=episode, tick=tick) for name, (_, shape) in CAMERAS.items()
            }
            state = rng.normal(size=STATE_DIM).astype(np.float32)
            action = rng.normal(size=ACTION_DIM).astype(np.float32)
            dataset.add_frame({**pictures, "observation.state": state, "action": action, "task": task})
        dataset.save_episode(parallel_encoding=False)
    dataset.finalize()
    return 0


if __name__ == "__main__":
    sys.exit(main())
