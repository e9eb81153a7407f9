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
    """Return what is left of the given datasets and of the recorded ones, those of which nothing is left apart."""
    given = [find_dataset(reference) for reference in setting.options.data.datasets]
    recorded = [product.path for product in episodes if (product.path / "meta").is_dir()]
    left = (kept(path, setting.outcomes.get(path.name, {}), with_images=with_images) for path in [*given, *recorded])
    return [dataset for dataset in left if dataset is not None]


def kept(folder: Path, outcomes: Mapping[str, str], *, with_images: bool) -> Dataset | None:
    """Return a dataset without the episodes that people discarded or that were aborted, None where no episode is left.

    An aborted episode says nothing of the policy: the link was lost, or somebody pressed stop. One that a person judged
    afterwards stays.
    """
    infos = Dataset(folder, with_images=False).episodes
    gone = (DISCARD, Outcome.ABORTED.value)
    left = [info.index for info in infos if outcomes.get(info.episode_id, info.outcome.value) not in gone]
    if not left:
        return None
    return Dataset(folder, with_images=with_images, episodes=left if len(left) < len(infos) else None)


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
    """Return the frames a policy may learn from, bool [F]: all but failed demonstrations and held robots."""
    is_success = np.array([record.is_success for record in table.episodes])
    is_wanted = is_success[table.episode] | (table.source != Source.DEMONSTRATION)
    return is_wanted & ~table.is_held
