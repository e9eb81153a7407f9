"""Frames of recorded stages and given datasets, as stages learn from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from opentau.control import DISCARD
from opentau.data.frames import FrameTable
from opentau.data.lerobot.dataset import Dataset
from opentau.data.lerobot.hub import find_dataset
from opentau.loop.mixing import frame_cache
from opentau.loop.run import Product
from opentau.loop.setting import Setting
from opentau.types import Outcome, Source


def frame_table(setting: Setting, episodes: Sequence[Product], *, with_images: bool = True) -> FrameTable:
    """Return the frames of recorded stages and of the given datasets, with the outcomes that people gave them."""
    datasets = datasets_of(setting, episodes, with_images=with_images)
    cache = frame_cache(setting.options.mixture) if with_images else None
    if with_images:
        table = FrameTable.from_datasets(datasets, image_size=setting.image_size, image_fit=setting.image_fit, cache=cache)
    else:
        table = FrameTable.from_datasets(datasets)
    return judged(table, datasets, setting.outcomes)


def datasets_of(setting: Setting, episodes: Sequence[Product], *, with_images: bool = True) -> list[Dataset]:
    """Return the given datasets and the recorded ones, without the episodes that people discarded."""
    given = [Dataset(find_dataset(reference), with_images=with_images) for reference in setting.options.data.datasets]
    recorded = [product.path for product in episodes if (product.path / "meta").is_dir()]
    return given + [kept(path, setting.outcomes.get(path.name, {}), with_images=with_images) for path in recorded]


def kept(folder: Path, outcomes: Mapping[str, str], *, with_images: bool) -> Dataset:
    """Return a recorded dataset without the episodes that people discarded."""
    if DISCARD not in outcomes.values():
        return Dataset(folder, with_images=with_images)
    infos = Dataset(folder, with_images=False).episodes
    left = [info.index for info in infos if outcomes.get(info.episode_id) != DISCARD]
    return Dataset(folder, with_images=with_images, episodes=left)


def judged(table: FrameTable, datasets: Sequence[Dataset], outcomes: Mapping[str, Mapping[str, str]]) -> FrameTable:
    """Return a table whose episodes ended as people say, where they said something."""
    said = {dataset.dataset_id: outcomes[dataset.root.name] for dataset in datasets if dataset.root.name in outcomes}
    if not said:
        return table
    records = tuple(
        replace(record, outcome=Outcome(outcome))
        if (outcome := said.get(record.dataset_id, {}).get(record.episode_id))
        else record
        for record in table.episodes
    )
    return replace(table, episodes=records)


def is_worth_learning(table: FrameTable) -> np.ndarray:
    """Return the frames a policy may learn from, bool [F]: all but failed demonstrations, aborted episodes and held robots."""
    is_success = np.array([record.is_success for record in table.episodes])
    is_aborted = np.array([record.outcome is Outcome.ABORTED for record in table.episodes])
    is_wanted = is_success[table.episode] | (table.source != Source.DEMONSTRATION)
    return is_wanted & ~table.is_held & ~is_aborted[table.episode]
