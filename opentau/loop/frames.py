"""Frames of recorded stages and given datasets, as stages learn from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from opentau.data.frames import FrameTable
from opentau.data.lerobot.dataset import Dataset
from opentau.data.lerobot.hub import find_dataset
from opentau.loop.mixing import frame_cache
from opentau.loop.run import Product
from opentau.loop.setting import Setting
from opentau.types import Outcome, Source


def frame_table(setting: Setting, episodes: Sequence[Product], *, with_images: bool = True) -> FrameTable:
    """Return the frames of recorded stages and of the given datasets."""
    recorded = [product.path for product in episodes if (product.path / "meta").is_dir()]
    folders = [find_dataset(reference) for reference in setting.options.data.datasets] + recorded
    datasets = [Dataset(folder, with_images=with_images) for folder in folders]
    cache = frame_cache(setting.options.mixture) if with_images else None
    if not with_images:
        return FrameTable.from_datasets(datasets)
    return FrameTable.from_datasets(datasets, image_size=setting.image_size, image_fit=setting.image_fit, cache=cache)


def is_worth_learning(table: FrameTable) -> np.ndarray:
    """Return the frames a policy may learn from, bool [F]: all but failed demonstrations, aborted episodes and held robots."""
    is_success = np.array([record.is_success for record in table.episodes])
    is_aborted = np.array([record.outcome is Outcome.ABORTED for record in table.episodes])
    is_wanted = is_success[table.episode] | (table.source != Source.DEMONSTRATION)
    return is_wanted & ~table.is_held & ~is_aborted[table.episode]
