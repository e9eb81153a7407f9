"""One camera of many episodes as a column of frames that is decoded when it is first used and kept in the frame cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from opentau.data.cache import FrameCache
from opentau.data.images import ImageFit, resize_with_pad
from opentau.data.lerobot.dataset import Dataset
from opentau.data.resampling import Resampling

# Shapes: F frames, B samples, T frames of an episode, N rows and columns of an image, E episodes.


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedFrames:
    """Frames uint8 [F, N, N, 3] of some datasets, one episode after another, read as ``column[rows]``.

    Whole episodes are decoded at a time, since decoding goes through the frames before anyway.
    """

    datasets: Sequence[Dataset]
    camera: str
    """Its name in the datasets."""
    image_size: int
    """N."""
    cache: FrameCache
    image_fit: ImageFit = ImageFit.CENTRED
    """How they are brought to N."""
    resampling: Resampling | None = None
    """To another rate than the recorded one."""
    _ticks: tuple[np.ndarray, ...] = field(init=False, repr=False)
    """Per episode the recorded frame behind every row, int64 [T]; empty at the recorded rate."""
    _starts: np.ndarray = field(init=False, repr=False)
    """First row per episode and the end, int64 [E + 1]."""
    _places: tuple[tuple[int, int], ...] = field(init=False, repr=False)
    """(dataset, position in it) per episode."""

    def __post_init__(self) -> None:
        places = [(number, position) for number, dataset in enumerate(self.datasets) for position in range(len(dataset))]
        lengths = [self.datasets[number].episodes[position].length for number, position in places]
        ticks = tuple(self.resampling.ticks(length) for length in lengths) if self.resampling else ()
        lengths = [len(tick) for tick in ticks] or lengths
        object.__setattr__(self, "_ticks", ticks)
        object.__setattr__(self, "_starts", np.cumsum((0, *lengths)))
        object.__setattr__(self, "_places", tuple(places))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (int(self._starts[-1]), self.image_size, self.image_size, 3)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return uint8 [B, N, N, 3] at rows int64 [B]; decodes what is not cached, and raises what decoding raises."""
        out = np.empty((len(rows), *self.shape[1:]), np.uint8)
        episode_B = np.searchsorted(self._starts, rows, side="right") - 1
        for episode in np.unique(episode_B):
            wanted = np.flatnonzero(episode_B == episode)
            ticks = rows[wanted] - self._starts[episode]
            out[wanted] = self._frames(int(episode))[self._ticks[episode][ticks] if self._ticks else ticks]
        return out

    def _frames(self, episode: int) -> np.ndarray:
        number, position = self._places[episode]
        dataset = self.datasets[number]
        # Frames that are fitted as they always were keep their names.
        fit = "" if self.image_fit is ImageFit.CENTRED else f"-{self.image_fit.value}"
        name = f"{dataset.dataset_id[:16]}-{self.camera}-{self.image_size}{fit}/{dataset.frames_id(position, self.camera)}"

        def decode() -> np.ndarray:
            return resize_with_pad(dataset.frames(position, self.camera), size=self.image_size, fit=self.image_fit)

        return self.cache.frames(name, decode)
