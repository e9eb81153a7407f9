"""The true statistics of states and actions beside those that a dataset states of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentau.data.lerobot import layout
from opentau.data.lerobot.dataset import Dataset
from opentau.data.statistics import DimStatistics, StreamingStatistics
from opentau.data.tools.findings import Progress
from opentau.data.tools.stated import STATISTICS, Contradiction, contradictions, read_stated
from opentau.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Statistics of one feature."""

    feature: str
    names: tuple[str, ...]
    """One per dimension."""
    found: DimStatistics
    """Of the data."""
    stated: dict[str, list[float]]
    """What the dataset says, by LeRobot's names; empty when it says nothing or not all episodes were measured."""
    contradictions: tuple[Contradiction, ...]

    def to_dict(self) -> dict[str, Any]:
        differing = [
            {"dimension": each.dimension, "statistic": each.statistic, "stated": each.stated, "found": each.found}
            | {"is_remark": each.is_remark}
            for each in self.contradictions
        ]
        return {
            "names": list(self.names),
            "found": self.found.to_dict(),
            "stated": self.stated,
            "contradictions": differing,
        }


def measure(root: Path, *, episodes: Sequence[int] | None, on_episode: Progress) -> list[Measured]:
    """Measure state and action in one pass; chosen episodes are not compared with statistics of all.

    What cannot be read, and numbers that are not finite, raise `DataError` naming the episode.
    """
    dataset = Dataset(root, with_images=False, episodes=episodes)
    names = {layout.STATE: dataset.interface.state_names, layout.ACTION: dataset.interface.action_names}
    names = {feature: of_dims for feature, of_dims in names.items() if of_dims}
    streams = {feature: StreamingStatistics(len(of_dims)) for feature, of_dims in names.items()}
    for position in range(len(dataset)):
        episode = dataset.numbers(position)
        columns = {layout.STATE: episode.state, layout.ACTION: episode.action}
        for feature, stream in streams.items():
            try:
                stream.add(columns[feature])
            except DataError as error:
                raise DataError(f"{dataset.where(position)}: {feature}: {error}. Look with `opentau data check`.") from error
        on_episode(position + 1, len(dataset))
    stated = read_stated(root, features=list(streams)) if episodes is None else {}
    return [_measured(feature, names[feature], stream, stated.get(feature, {})) for feature, stream in streams.items()]


def _measured(feature: str, names: tuple[str, ...], stream: StreamingStatistics, stated: dict[str, Any]) -> Measured:
    found = stream.finish()
    return Measured(
        feature=feature,
        names=names,
        found=found,
        stated={name: numbers.tolist() for name, numbers in stated.items() if name in STATISTICS},
        contradictions=tuple(contradictions(feature, stated=stated, found=found, names=names)),
    )
