"""What a dataset's cameras showed: the references of `opentau robot check --dataset`."""

from __future__ import annotations

import numpy as np

from opentau.data.lerobot.dataset import Dataset
from opentau.data.lerobot.hub import find_dataset

NUM_EPISODES = 5


def first_frames(name: str) -> dict[str, list[np.ndarray]]:
    """Return the first frames of some episodes of a dataset by camera."""
    dataset = Dataset(find_dataset(name))
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(NUM_EPISODES, len(dataset))).astype(int))
    episodes = [dataset.load(int(position)) for position in chosen]
    return {camera: [episode.images[camera][0] for episode in episodes] for camera in dataset.interface.cameras}
