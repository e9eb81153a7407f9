"""One frame of a scene with what is true of it, and which of these truths a picture shows beyond doubt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opentau.data.vlm.boxes import Box

MIN_SHARE = 0.0015
"""Share of an image's pixels from which an object counts as seen: six pixels of 64 × 64."""
MIN_SIDE = 0.03
"""Shortest side of a box that is asked about, as a share of the image's: two pixels of 64."""
MARGIN = 0.06
"""Two boxes are left and right of each other when their centres are this far apart, as a share of the image's width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneFrame:
    """A moment of an episode; pictures are kept beside it."""

    episode: int
    tick: int
    prompt: str
    cameras: tuple[str, ...]
    """In the order in which pictures are listed."""
    truth: Mapping[str, Any]
    """Of `GroundedEnv.ground_truth`."""
    subtask: str | None
    """What the expert does next, in words; None where nobody acts."""

    def name(self, key: str) -> str:
        """Return what a person calls an object."""
        return str(self.truth["objects"][key]["name"])

    def box(self, camera: str, key: str) -> Box:
        """Return an object's box in a camera's picture."""
        y_min, x_min, y_max, x_max = self.truth["cameras"][camera][key]["box"]
        return y_min, x_min, y_max, x_max

    def seen(self, camera: str) -> list[str]:
        """Return the objects that a camera shows clearly."""
        return [key for key in self.truth["cameras"][camera] if self._is_clear(camera, key)]

    def unclear(self, camera: str) -> list[str]:
        """Return the objects of which a camera shows too little to say whether they can be seen."""
        return [key for key in self.truth["cameras"][camera] if not self._is_clear(camera, key)]

    def is_seen_anywhere(self, key: str) -> bool:
        return any(key in self.seen(camera) for camera in self.cameras)

    def unique(self) -> list[str]:
        """Return the objects whose name means no other object of the scene."""
        counts = Counter(self.name(key) for key in self.truth["objects"])
        return [key for key in self.truth["objects"] if counts[self.name(key)] == 1]

    def is_left(self, camera: str, key: str, other: str) -> bool | None:
        """Return whether one object is left of another in the picture; None where that is not beyond doubt.

        It is not where the centres are close, or where one box reaches across the other's centre.
        """
        _, left, _, right = self.box(camera, key)
        _, other_left, _, other_right = self.box(camera, other)
        centre, other_centre = (left + right) / 2, (other_left + other_right) / 2
        is_across = left <= other_centre <= right or other_left <= centre <= other_right
        return None if is_across or abs(centre - other_centre) < MARGIN else centre < other_centre

    def _is_clear(self, camera: str, key: str) -> bool:
        y_min, x_min, y_max, x_max = self.box(camera, key)
        is_large = min(y_max - y_min, x_max - x_min) >= MIN_SIDE
        return is_large and self.truth["cameras"][camera][key]["share"] >= MIN_SHARE
