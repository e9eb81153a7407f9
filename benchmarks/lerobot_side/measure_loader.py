"""Samples per CPU-second of LeRobot's own loader: single frames of every camera in random order, with action chunks."""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib.metadata import version
from pathlib import Path

import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.utils.import_utils import get_safe_default_video_backend
from torch.utils.data import DataLoader


def cpu_s() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> int:
    """Print one line of figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, help="the dataset's folder")
    parser.add_argument("--samples", type=int, default=1024, help="samples measured")
    parser.add_argument("--warm-up", type=int, default=128, help="samples before that")
    parser.add_argument("--horizon", type=int, default=50, help="steps of an action chunk")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--video-backend", help="pyav or torchcodec; LeRobot's own choice if not given")
    parser.add_argument("--seed", type=int, default=0)
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    backend = parsed.video_backend or get_safe_default_video_backend()
    plain = LeRobotDataset("local/dataset", root=parsed.root, video_backend=backend)
    chunk_s = [tick / plain.fps for tick in range(parsed.horizon)]
    dataset = LeRobotDataset("local/dataset", root=parsed.root, video_backend=backend, delta_timestamps={"action": chunk_s})
    num_warm_up, num_samples = (-(-wanted // parsed.batch_size) for wanted in (parsed.warm_up, parsed.samples))
    picked = torch.randint(
        len(dataset), ((num_warm_up + num_samples) * parsed.batch_size,), generator=torch.Generator().manual_seed(parsed.seed)
    )
    batches = iter(DataLoader(dataset, batch_size=parsed.batch_size, sampler=picked.tolist(), num_workers=0))
    for _ in range(num_warm_up):
        next(batches)
    started_s = cpu_s()
    for batch in batches:
        if batch["action"].shape[:2] != (parsed.batch_size, parsed.horizon):
            raise ValueError(f"a batch has actions {tuple(batch['action'].shape)}, not {parsed.batch_size} chunks")
    spent_s = cpu_s() - started_s
    figures = {
        "samples": num_samples * parsed.batch_size,
        "cpu_s": round(spent_s, 3),
        "samples_per_cpu_s": round(num_samples * parsed.batch_size / spent_s, 1),
        "cameras": len(dataset.meta.camera_keys),
        "horizon": parsed.horizon,
        "lerobot": version("lerobot"),
        "torch": torch.__version__,
        "video_backend": backend if dataset.meta.video_keys else None,
    }
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
