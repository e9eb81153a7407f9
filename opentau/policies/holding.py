"""The last chunk of every episode, for the moment when the next one cannot be had."""

# Shapes: H actions of a chunk, A action dimensions.

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from opentau.types import PolicyRequest

MAX_EPISODES = 256
"""More than are ever played at once; an episode has a chunk of a few kilobytes."""


class LastChunks:
    """What an episode, known by its seed, was answered last.

    Requests of one episode come in the order of their ticks, so that what is held is a function of the episode's requests, and
    of no other's. A chunk that comes from another attempt at the episode, or that has no action left, is not held.
    """

    def __init__(self) -> None:
        self._by_seed: OrderedDict[int, tuple[int, np.ndarray]] = OrderedDict()

    def keep(self, request: PolicyRequest, actions_HA: np.ndarray) -> None:
        """Note the answer to a request, in the interface's units."""
        self._by_seed[request.episode_seed] = (request.tick, actions_HA.copy())
        self._by_seed.move_to_end(request.episode_seed)
        if len(self._by_seed) > MAX_EPISODES:
            self._by_seed.popitem(last=False)

    def rest(self, request: PolicyRequest) -> np.ndarray | None:
        """Return what is left of the last chunk at the tick of a request, its last action repeated to H; None for nothing."""
        tick, actions_HA = self._by_seed.get(request.episode_seed, (request.tick, np.empty((0, 0), np.float32)))
        num_played = request.tick - tick
        if not 0 < num_played < len(actions_HA):
            return None
        return np.concatenate([actions_HA[num_played:], actions_HA[-1:].repeat(num_played, axis=0)])
