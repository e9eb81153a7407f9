"""Read a dataset with LeRobot, frame by frame, and leave what it gives in plain files.

One compressed npz per episode holds every column (images as uint8 [T, Y, X, C]); index.json holds the rest.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot import __version__ as lerobot_version
from lerobot.datasets.lerobot_dataset import LeRobotDataset

INDEX_NAME = "index.json"


def frame_columns(dataset: LeRobotDataset, frame: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return one frame's features as arrays; pixels, which LeRobot gives as float [C, Y, X] in 0..1, as uint8 [Y, X, C]."""
    columns = {}
    for key in dataset.features:
        array = frame[key].numpy()
        if key in dataset.meta.camera_keys:
            pixels = array if array.dtype == np.uint8 else np.rint(array * 255).astype(np.uint8)
            array = pixels.transpose(1, 2, 0)
        columns[key] = array
    return columns


def read_episode(dataset: LeRobotDataset, row: dict[str, Any], path: Path) -> list[str]:
    """Write one episode's npz and return its task per frame."""
    frames = [dataset[index] for index in range(row["dataset_from_index"], row["dataset_to_index"])]
    columns = [frame_columns(dataset, frame) for frame in frames]
    stacked: dict[str, Any] = {key: np.stack([each[key] for each in columns]) for key in columns[0]}
    np.savez_compressed(path, **stacked)
    return [frame["task"] for frame in frames]


def main() -> int:
    """Write one npz per episode and index.json into a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, help="the dataset's folder")
    parser.add_argument("out", type=Path, help="an existing folder for the files")
    parser.add_argument("--video-backend", default="pyav", help="pyav or torchcodec")
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    dataset = LeRobotDataset("local/dataset", root=parsed.root, video_backend=parsed.video_backend)
    episodes = []
    for number in range(dataset.num_episodes):
        row = dict(dataset.meta.episodes[number])
        file_name = f"episode-{number:06d}.npz"
        episodes.append({"file": file_name, "task": read_episode(dataset, row, parsed.out / file_name), "row": row})
    index = {
        "lerobot": lerobot_version,
        "torch": torch.__version__,
        "video_backend": parsed.video_backend,
        "fps": dataset.fps,
        "camera_keys": dataset.meta.camera_keys,
        "video_keys": dataset.meta.video_keys,
        "episodes": episodes,
    }
    (parsed.out / INDEX_NAME).write_text(json.dumps(index))
    return 0


if __name__ == "__main__":
    sys.exit(main())
