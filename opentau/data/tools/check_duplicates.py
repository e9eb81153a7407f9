"""Finds episodes that are in a dataset twice, exactly or shifted in time."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np

from opentau.data.tools.findings import Finding, Severity

# Shapes: T frames, D dimensions of state and action together.

SAME_SHARE = 0.8
"""Of the moving frames of the shorter episode: two different recordings never share that many at one shift."""
KEPT_MANTISSA = 0xFFFFF000
"""Keeps 11 bits of a float32's fraction, so that a copy that went through another format is still the same."""
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
        seen: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for index, hashes in self._frames.items():
            shifts: Counter[tuple[int, int]] = Counter()
            moving = np.flatnonzero(hashes)
            for frame in moving.tolist():
                shifts.update((other, frame - before) for other, before in seen[int(hashes[frame])])
            for (other, shift), count in shifts.most_common(1):
                num_moving = min(len(moving), int(np.count_nonzero(self._frames[other])))
                if num_moving >= MIN_MOVING_FRAMES and count >= SAME_SHARE * num_moving:
                    yield other, index, shift, count / num_moving
            for frame in moving.tolist():
                seen[int(hashes[frame])].append((index, frame))


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
