"""Finds episodes that are in a dataset twice, exactly or shifted in time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import numpy as np

from opentau.data.tools.findings import Finding, Severity

# Shapes: T frames, D dimensions of state and action together.

SAME_SHARE = 0.8
"""Of the moving frames of the shorter episode: two different recordings never share that many at one shift."""
KEPT_MANTISSA = 0xFFFFF000
"""Keeps 11 bits of a float32's fraction, so that a copy that went through another format is still the same."""
MAX_REPEATS = 16
"""A frame that is there more often is a resting pose; pairs of such frames further apart are not compared."""
MIN_MOVING_FRAMES = 5
"""Fewer frames that move agree by chance."""


class Duplicates:
    """Collects a hash of every frame's state and action; eight bytes a frame are kept."""

    def __init__(self) -> None:
        self._digests: dict[bytes, int] = {}
        self._twins: list[tuple[int, int]] = []
        self._frames: dict[int, np.ndarray] = {}

    def add(self, index: int, state_TS: np.ndarray, action_TA: np.ndarray) -> None:
        """Take in the rows of one episode."""
        rows_TD = np.ascontiguousarray(np.concatenate([state_TS, action_TA], axis=1), np.float32)
        if not rows_TD.size:
            return
        digest = hashlib.sha256(rows_TD.tobytes()).digest()
        if digest in self._digests:
            self._twins.append((self._digests[digest], index))
            return
        self._digests[digest] = index
        self._frames[index] = _moving_frames(rows_TD)

    def findings(self) -> Iterator[Finding]:
        for first, second in self._twins:
            text = f"episode {second} has the same states and actions as episode {first}"
            yield _finding("duplicate", text, first, second)
        for first, second, shift, share in self._shifted():
            text = f"episode {second} repeats {100 * share:.0f} % of episode {first}, {abs(shift)} frames "
            yield _finding("near-duplicate", text + ("later" if shift > 0 else "earlier"), first, second)

    def _shifted(self) -> Iterator[tuple[int, int, int, float]]:
        """Yield pairs of episodes that share most moving frames at one shift, with that shift and the share."""
        num_moving = {index: int(np.count_nonzero(hashes)) for index, hashes in self._frames.items()}
        found: dict[tuple[int, int], tuple[int, int, int, float]] = {}
        for (first, second, shift), count in _shared_frames(self._frames):
            fewer = min(num_moving[first], num_moving[second])
            if fewer >= MIN_MOVING_FRAMES and count >= SAME_SHARE * fewer:
                found.setdefault((first, second), (first, second, shift, count / fewer))
        yield from found.values()


def _shared_frames(frames: Mapping[int, np.ndarray]) -> Iterator[tuple[tuple[int, int, int], int]]:
    """Yield (episode, later episode, shift) with how many moving frames [T] of theirs are the same, the most first."""
    hashes_N = np.concatenate([each for each in frames.values()] or [np.zeros(0, np.uint64)])
    episode_N = np.repeat(np.array(list(frames), np.int64), [len(each) for each in frames.values()])
    frame_N = np.concatenate([np.arange(len(each)) for each in frames.values()] or [np.zeros(0, np.int64)])
    order = np.argsort(hashes_N, kind="stable")[np.count_nonzero(hashes_N == 0) :]
    triples = []
    for step in range(1, MAX_REPEATS):
        first, second = order[:-step], order[step:]
        same = hashes_N[first] == hashes_N[second]
        if not same.any():
            break
        first, second = first[same], second[same]
        triple = np.stack([episode_N[first], episode_N[second], frame_N[second] - frame_N[first]], axis=1)
        triples.append(triple[triple[:, 0] != triple[:, 1]])
    pairs, counts = np.unique(np.concatenate([*triples, np.zeros((0, 3), np.int64)]), axis=0, return_counts=True)
    for position in np.argsort(-counts, kind="stable"):
        first_episode, second_episode, shift = (int(number) for number in pairs[position])
        yield (first_episode, second_episode, shift), int(counts[position])


def _moving_frames(rows_TD: np.ndarray) -> np.ndarray:
    """Return a hash per frame, uint64 [T]; 0 where nothing moved since the frame before."""
    coarse_TD = (rows_TD.view(np.uint32) + np.uint32(0x800)) & np.uint32(KEPT_MANTISSA)
    hashes_T = np.zeros(len(rows_TD), np.uint64)
    for column in coarse_TD.T:
        # A step of FNV per dimension, with a shift that lets high bits reach low ones; arithmetic wraps.
        hashes_T = (hashes_T ^ column) * np.uint64(0x100000001B3)
        hashes_T ^= hashes_T >> np.uint64(29)
    hashes_T[1:][(coarse_TD[1:] == coarse_TD[:-1]).all(axis=1)] = 0
    return hashes_T


def _finding(code: str, text: str, first: int, second: int) -> Finding:
    fix = f"Keep one of them: `opentau data export --exclude {second}`."
    return Finding(severity=Severity.WARNING, code=code, text=text, fix=fix, episodes=(first, second))
