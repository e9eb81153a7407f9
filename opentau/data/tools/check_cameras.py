"""Checks of pixels: cameras that froze, are black, or were exchanged in some episodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from PIL import Image

from opentau.data.tools.findings import Finding, Severity, named_episodes

# Shapes: T frames, Y and X image rows and columns, E episodes, N numbers of a thumbnail, S state dimensions.

FROZEN_S = 1.5
"""Robots pause, and simulators draw the same twice; nothing that moves stays the same for longer."""
MOVED_SHARE = 0.2
"""Of a dimension's range over the dataset: what moves further must be seen by a camera that looks at the robot."""
VIDEO_NOISE = 8
"""Levels by which a codec changes pixels of a scene that stands still; images that are stored exactly differ by none."""
BLACK_LEVEL = 16
"""Pixels no brighter than this are black: a codec's noise and a sensor's dark current stay below."""
BLACK_S = 0.5
"""Lights flicker for less."""
THUMBNAIL = 8
"""Side of the pictures that cameras are told apart by."""
SWAPPED_SHARE = 0.5
"""Exchanged, an episode's pictures must fit the cameras twice as well as they do now."""
DISTINCT = 2.0
"""Cameras are told apart only where they differ by this many times the usual difference between episodes."""
FIX_VIEW = "Look at it with `opentau data view`, and leave these episodes out with `opentau data export --exclude`."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stretch:
    """Frames of one episode and camera that are all the same."""

    camera: str
    index: int
    start: int
    length: int
    moved_S: np.ndarray
    """How far the state moved meanwhile."""


class Cameras:
    """Collects what pictures show; a few hundred bytes an episode and camera are kept."""

    def __init__(self, *, fps: float) -> None:
        self._fps = fps
        self._frozen: list[_Stretch] = []
        self._black: dict[str, list[tuple[int, int, int]]] = {}
        self._thumbnails: dict[str, dict[int, np.ndarray]] = {}
        self._low_S: np.ndarray | None = None
        self._high_S: np.ndarray | None = None

    def add_state(self, state_TS: np.ndarray) -> None:
        """Take in the states of one episode, whose range says what moving far means."""
        low_S, high_S = state_TS.min(axis=0), state_TS.max(axis=0)
        self._low_S = low_S if self._low_S is None else np.minimum(self._low_S, low_S)
        self._high_S = high_S if self._high_S is None else np.maximum(self._high_S, high_S)

    def add(self, index: int, camera: str, frames: np.ndarray, *, state_TS: np.ndarray, is_video: bool) -> None:
        """Take in the frames uint8 [T, Y, X, 3] of one episode and camera."""
        noise = VIDEO_NOISE if is_video else 0
        is_same_T = np.array([False, *(_change(a, b) <= noise for a, b in pairwise(frames))])
        is_black_T = np.array([frame.max() <= BLACK_LEVEL for frame in frames])
        for start, length in _runs(is_black_T, min_length=BLACK_S * self._fps):
            self._black.setdefault(camera, []).append((index, start, length))
        for start, length in _runs(is_same_T & ~is_black_T, min_length=FROZEN_S * self._fps):
            moved_S = np.ptp(state_TS[start - 1 : start + length], axis=0)
            self._frozen.append(_Stretch(camera=camera, index=index, start=start - 1, length=length + 1, moved_S=moved_S))
        self._thumbnails.setdefault(camera, {})[index] = _thumbnail(frames)

    def findings(self) -> Iterator[Finding]:
        yield from self._black_findings()
        yield from self._frozen_findings()
        for first, second in combinations(sorted(self._thumbnails), 2):
            yield from self._swapped_findings(first, second)

    def _black_findings(self) -> Iterator[Finding]:
        for camera, stretches in sorted(self._black.items()):
            episodes = tuple(dict.fromkeys(index for index, _, _ in stretches))
            index, start, length = stretches[0]
            is_always = len(episodes) == len(self._thumbnails[camera])
            yield Finding(
                severity=Severity.WARNING if is_always else Severity.ERROR,
                code="black-camera",
                text=f"camera {camera} is black in {'every episode' if is_always else named_episodes(episodes)}: in episode "
                f"{index} for {length / self._fps:.1f} s from frame {start} on",
                fix="Leave the camera out of training." if is_always else FIX_VIEW,
                episodes=episodes,
                frame=start,
                camera=camera,
            )

    def _frozen_findings(self) -> Iterator[Finding]:
        if self._low_S is None or self._high_S is None:
            return
        far_S = np.maximum(MOVED_SHARE * (self._high_S - self._low_S), np.finfo(np.float32).tiny)
        frozen = [stretch for stretch in self._frozen if (stretch.moved_S > far_S).any()]
        for camera in sorted({stretch.camera for stretch in frozen}):
            of_camera = [stretch for stretch in frozen if stretch.camera == camera]
            episodes = tuple(dict.fromkeys(stretch.index for stretch in of_camera))
            first = of_camera[0]
            yield Finding(
                severity=Severity.WARNING,
                code="frozen-camera",
                text=f"camera {camera} shows the same picture while the robot moves in {named_episodes(episodes)}: in episode "
                f"{first.index} for {first.length / self._fps:.1f} s from frame {first.start} on",
                fix=FIX_VIEW,
                episodes=episodes,
                frame=first.start,
                camera=camera,
            )

    def _swapped_findings(self, first: str, second: str) -> Iterator[Finding]:
        both = sorted(set(self._thumbnails[first]) & set(self._thumbnails[second]))
        if len(both) < 3:
            return  # two episodes that differ do not say which of them is right
        first_EN, second_EN = (np.stack([self._thumbnails[camera][index] for index in both]) for camera in (first, second))
        usual_first_N, usual_second_N = _medoid(first_EN), _medoid(second_EN)
        straight_E = _distance(first_EN, usual_first_N) + _distance(second_EN, usual_second_N)
        swapped_E = _distance(first_EN, usual_second_N) + _distance(second_EN, usual_first_N)
        apart = 2 * float(_distance(usual_first_N, usual_second_N))
        if apart < DISTINCT * float(np.median(straight_E)):
            return
        is_swapped_E = (swapped_E < SWAPPED_SHARE * straight_E) & (straight_E - swapped_E > SWAPPED_SHARE * apart)
        episodes = tuple(both[position] for position in np.flatnonzero(is_swapped_E))
        if episodes:
            yield Finding(
                severity=Severity.ERROR,
                code="swapped-cameras",
                text=f"cameras {first} and {second} are exchanged in {named_episodes(episodes)}: their pictures differ by "
                f"{straight_E[is_swapped_E][0] / 2:.0f} levels from the other episodes', exchanged by "
                f"{swapped_E[is_swapped_E][0] / 2:.0f}",
                fix="Export these episodes alone with --rename-camera for both, or leave them out with --exclude.",
                episodes=episodes,
                camera=first,
            )


def _change(first: np.ndarray, second: np.ndarray) -> int:
    """Return by how many levels the most changed pixel changed."""
    return int((np.maximum(first, second) - np.minimum(first, second)).max())


def _runs(flags_T: np.ndarray, *, min_length: float) -> list[tuple[int, int]]:
    """Return start and length of every stretch of true flags that is long enough."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags_T, [False]]).astype(np.int8)))
    spans = [(int(start), int(stop - start)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
    return [(start, length) for start, length in spans if length >= min_length]


def _thumbnail(frames: np.ndarray) -> np.ndarray:
    """Return the mean picture of frames [T, Y, X, 3], small, as numbers [N]."""
    mean = frames.mean(axis=0, dtype=np.float32)
    small = [Image.fromarray(mean[..., channel]).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX) for channel in range(3)]
    return np.concatenate([np.asarray(channel).ravel() for channel in small])


def _medoid(pictures_EN: np.ndarray) -> np.ndarray:
    """Return the picture with the smallest sum of distances to all others, [N]; outliers do not move it."""
    totals = [float(_distance(pictures_EN, picture_N).sum()) for picture_N in pictures_EN]
    return pictures_EN[int(np.argmin(totals))]


def _distance(pictures: np.ndarray, other_N: np.ndarray) -> np.ndarray:
    """Return the mean difference in levels of pictures [..., N] from one."""
    return np.abs(pictures - other_N).mean(axis=-1)
