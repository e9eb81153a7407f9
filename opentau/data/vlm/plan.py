"""What a set of visual questions is made of: its environment, its numbered episodes, and which of them validate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from opentau.errors import OptionError
from opentau.types import derive_seed

QUESTIONS_PER_EPISODE = 50
"""Asked of an episode where the number of episodes is not given."""
MIN_EPISODES = 6
FRESH_EVERY = 3
"""Every third episode of a task is only looked at as it starts: placements cost far less than played episodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VqaPlan:
    """A data set of questions, all of it a function of these values."""

    env_name: str
    env: Mapping[str, Any]
    """{"target", "args"}; the task's number is added as `task_id`."""
    expert: Mapping[str, Any]
    perturbation: Mapping[str, Any] | None
    task_ids: tuple[int, ...]
    """Take turns."""
    seed: int
    num_questions: int
    num_episodes: int
    validation_share: float
    """Of the episodes and of the questions; 0 for none."""

    def __post_init__(self) -> None:
        for name, value in (("--questions", self.num_questions), ("--episodes", self.num_episodes)):
            if value < 1:
                raise OptionError(f"{name} is {value}; it must be 1 or more")
        if not 0.0 <= self.validation_share < 1.0:
            raise OptionError(f"--split-share is {self.validation_share}; it must be at least 0 and below 1")
        if self.validation_share > 0 and self.num_played < 2:
            raise OptionError(
                f"{self.num_episodes} episodes cannot be split into training and validation; "
                "use more --episodes or --split-share 0"
            )

    @property
    def scenes_key(self) -> dict[str, Any]:
        """Return what every single episode depends on: an interrupted set goes on only where this is the same."""
        return {
            "env": dict(self.env),
            "expert": dict(self.expert),
            "perturbation": dict(self.perturbation) if self.perturbation else None,
            "task_ids": list(self.task_ids),
            "seed": self.seed,
        }

    @property
    def num_played(self) -> int:
        return sum(self.is_played(episode) for episode in range(self.num_episodes))

    def task_of(self, episode: int) -> int:
        return self.task_ids[episode % len(self.task_ids)]

    def is_played(self, episode: int) -> bool:
        """Return whether an expert plays the episode; otherwise only its start is looked at."""
        return episode // len(self.task_ids) % FRESH_EVERY != FRESH_EVERY - 1

    def seed_of(self, episode: int) -> int:
        """Return the episode's own seed; other tasks and the number of episodes do not change it."""
        return derive_seed(self.seed, "vqa", self.task_of(episode), episode // len(self.task_ids))

    def validation_episodes(self) -> set[int]:
        """Return the episodes kept for validation: the share of the played ones, at least one, and of the others."""
        rng = np.random.default_rng(derive_seed(self.seed, "split"))
        chosen: set[int] = set()
        for is_played in (True, False):
            episodes = [episode for episode in range(self.num_episodes) if self.is_played(episode) == is_played]
            at_least = 1 if is_played and self.validation_share > 0 else 0
            at_most = max(len(episodes) - 1, 0)
            count = min(max(round(self.validation_share * len(episodes)), at_least), at_most)
            chosen.update(rng.permutation(episodes)[:count].tolist())
        return chosen


def default_episodes(num_questions: int) -> int:
    """Return how many episodes give so many questions."""
    return max(MIN_EPISODES, -(-num_questions // QUESTIONS_PER_EPISODE))
