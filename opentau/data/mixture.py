"""Training batches mixed from several sources: robots of other shapes, other rates and cameras, and questions about images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from opentau.data.batches import Batch
from opentau.data.fitting import PolicySizes, fitted, joined
from opentau.errors import DataError
from opentau.types import derive_seed

# Shapes: B samples, P parts, U updates.


class SampleSource(Protocol):
    """What a part draws from."""

    def draw(self, num_samples: int, *, rng: np.random.Generator, num_before: int) -> Batch:
        """Return so many samples, of a source that `num_before` were drawn of before."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A weight over the course of a training, linear between its points and constant outside them."""

    points: tuple[tuple[float, float], ...]
    """(progress from 0 to 1, weight at least 0), progress ascending."""

    def __post_init__(self) -> None:
        progress = [point[0] for point in self.points]
        if not self.points or progress != sorted(set(progress)) or not 0 <= progress[0] <= progress[-1] <= 1:
            raise DataError(f"the points of a weight have the progress {progress}; it ascends within 0 to 1")
        weights = [weight for _, weight in self.points]
        if not np.isfinite(weights).all() or min(weights) < 0:
            raise DataError(f"a weight is {min(weights)}; weights are finite and at least 0")

    @classmethod
    def of(cls, weight: float | Sequence[Sequence[float]]) -> Schedule:
        """Build from a number, or from a list of [progress, weight]."""
        if isinstance(weight, int | float):
            return cls(points=((0.0, float(weight)),))
        return cls(points=tuple((float(progress), float(value)) for progress, value in weight))

    def at(self, progress: np.ndarray) -> np.ndarray:
        """Return weights at progress [U]."""
        at, weights = np.array(self.points).T
        return np.interp(progress, at, weights)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One ingredient of a mixture."""

    name: str
    source: SampleSource
    weight: Schedule
    size: int
    """Frames or questions, for weights that go by size."""
    adapt: Callable[[Batch], Batch] | None = None
    """Applied to what is drawn, for example words about the robot in its prompts; None leaves it as it is."""


def scaled_weights(parts: Sequence[Part], progress_U: np.ndarray, *, size_exponent: float) -> np.ndarray:
    """Return each part's weight times its size to the power of `size_exponent`, float64 [U, P]."""
    scale = np.array([float(part.size) for part in parts]) ** size_exponent
    return np.stack([part.weight.at(progress_U) for part in parts], axis=1) * scale


class Mixture:
    """Batches of a mixture; ``mixture(update)`` is the same batch whenever and wherever it is asked for.

    A part's share of an update is its weight times its size to the power of `size_exponent`, over the sum of these: 0 takes
    weights as they are, 1 is proportional to size, between them small parts are drawn more often than their size (temperature).
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        sizes: PolicySizes,
        batch_size: int,
        num_updates: int,
        seed: int,
        size_exponent: float = 0.0,
    ) -> None:
        """Raises `DataError` where no part has a weight at some update, or two parts have one name."""
        names = [part.name for part in parts]
        if not parts or len(set(names)) != len(names):
            raise DataError(f"the parts of the mixture are {names}; give at least one, each name once")
        if not 0 <= size_exponent <= 1:
            raise DataError(f"size_exponent is {size_exponent}; 0 takes weights as they are, 1 is proportional to size")
        self.parts = tuple(parts)
        self.batch_size = batch_size
        self._sizes, self._seed = sizes, seed
        progress_U = np.arange(num_updates) / max(1, num_updates - 1)
        weights_UP = scaled_weights(parts, progress_U, size_exponent=size_exponent)
        total_U = weights_UP.sum(axis=1)
        if (total_U <= 0).any():
            raise DataError(
                f"all weights of the mixture ({', '.join(names)}) are 0 at update {int((total_U <= 0).argmax())}; "
                "give at least one part a weight above 0 throughout"
            )
        self._shares_UP = weights_UP / total_U[:, None]
        self._before_UP = np.concatenate([np.zeros((1, len(parts))), np.cumsum(self._shares_UP, axis=0)]) * batch_size

    def shares(self, update: int) -> np.ndarray:
        """Return each part's share of an update, float64 [P]."""
        return self._shares_UP[min(update, len(self._shares_UP) - 1)]

    def counts(self, update: int) -> np.ndarray:
        """Return how many samples of an update each part gives, int64 [P]: its share of B rounded up or down at random."""
        rng = np.random.default_rng(derive_seed(self._seed, "counts", update))
        levels = (np.arange(self.batch_size) + rng.random()) / self.batch_size
        part_B = np.minimum(np.searchsorted(np.cumsum(self.shares(update)), levels, side="right"), len(self.parts) - 1)
        return np.bincount(part_B, minlength=len(self.parts))

    def __call__(self, update: int) -> Batch:
        """Return the batch of one update, the samples of a part side by side."""
        drawn = []
        for position, (part, count) in enumerate(zip(self.parts, self.counts(update), strict=True)):
            if count:
                rng = np.random.default_rng(derive_seed(self._seed, "part", part.name, update))
                num_before = int(self._before_UP[min(update, len(self._before_UP) - 1), position])
                batch = part.source.draw(int(count), rng=rng, num_before=num_before)
                batch = part.adapt(batch) if part.adapt is not None else batch
                drawn.append(fitted(batch, self._sizes, part=position))
        return joined(drawn)
