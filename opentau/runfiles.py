"""What a run's directory holds beside its events, as a screen asks for it; only where the run's files can be reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from opentau.labelfacts import LabelFacts

# Shapes: T control steps of an episode, n pictures, Y and X image rows and columns.


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFiles:
    """A complete stage on disk."""

    stage: str
    content_id: str
    """Of a training: the policy's version."""
    num_bytes: int
    inputs: Mapping[str, Any]
    """What the stage was made from: its options, and the content ids of other stages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """A recorded episode."""

    stage: str
    episode_id: str
    outcome: str
    prompt: str
    cameras: tuple[str, ...]
    camera: str
    """The one that is shown."""
    ticks: tuple[int, ...]
    """Control steps of the pictures."""
    pictures: np.ndarray
    """uint8 [n, Y, X, 3]."""
    source: np.ndarray
    """`Source` per step, int8 [T]."""
    values: np.ndarray
    """What the critic said, float32 [T]: the labels' value where the episode is labelled, else the one served; NaN if none."""
    advantages: np.ndarray
    """float32 [T]; NaN where it is not labelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What a station shows while somebody has it in hand."""

    episode_id: str
    tick: int
    pictures: Mapping[str, np.ndarray]
    """Camera to uint8 [Y, X, 3]."""
    state: tuple[float, ...] = ()
    """Proprioception, in the units of its interface."""


class RunFiles(Protocol):
    """Reads a run's directory; slow enough that a screen asks from a thread. Raises `OpenTauError` for what is damaged."""

    def stages(self) -> Mapping[str, StageFiles]:
        """Return the complete stages, by name."""
        ...

    def labels(self, iteration: int) -> LabelFacts | None:
        """Return how an iteration was labelled, for runs whose events do not tell it."""
        ...

    def film(self, stage: str, episode_id: str, *, num_pictures: int, camera: str | None = None) -> Film | None:
        """Return an episode with some of its pictures; None where it was not recorded, or its stage is not complete yet."""
        ...

    def live(self, station: str) -> Live | None:
        """Return what a station showed last; None where it shows nothing."""
        ...
