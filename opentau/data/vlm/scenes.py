"""Moments of scenes worth asking about: an expert's episode, looked at a few times in each of its subtasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from opentau.data.vlm.facts import SceneFrame
from opentau.errors import OptionError
from opentau.protocols import Expert, GroundedEnv, NarratingExpert, Perturbation
from opentau.subtasks import goal_words, subtask_sentence
from opentau.types import derive_seed

FRAMES_PER_SUBTASK = 2
TICKS_AFTER_SUCCESS = 20
"""An episode is played on for so long, so that there are moments in which the object lies where it belongs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actors:
    """An environment and who acts in it."""

    env: GroundedEnv
    expert: Expert
    """A `NarratingExpert`, once it has started."""
    perturbation: Perturbation | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A frame with its pictures."""

    frame: SceneFrame
    images: Mapping[str, np.ndarray]
    """Camera to uint8 [Y, X, 3]."""


def sample_moments(actors: Actors, *, episode: int, seed: int, is_played: bool) -> list[Moment]:
    """Return moments of one episode, a function of the seed: its start and, where it is played, up to two of each subtask."""
    env = actors.env
    env.reset(seed=derive_seed(seed, "env"))
    actors.expert.start(seed=derive_seed(seed, "expert"), is_clean=False)
    goal = _goal_words(actors)
    if not is_played:
        actors.expert.act()  # makes it choose its first phase; nothing is executed
        return [_look(env, episode=episode, tick=0, subtask=subtask_sentence(actors.expert.phase, **goal))]
    states, subtasks = _play(actors, goal, seed=seed)
    moments = []
    for tick in _choose_ticks(subtasks, np.random.default_rng(derive_seed(seed, "ticks"))):
        env.set_state(states[tick])
        moments.append(_look(env, episode=episode, tick=tick, subtask=subtasks[tick]))
    return moments


def _play(actors: Actors, goal: Mapping[str, str], *, seed: int) -> tuple[list[np.ndarray], list[str]]:
    """Return the simulator state before every action, and the subtask that the action serves."""
    env, expert, perturbation = actors.env, actors.expert, actors.perturbation
    if perturbation is not None:
        perturbation.start(seed=derive_seed(seed, "perturbation"))
    states, subtasks = [], []
    ticks_left = env.max_steps
    while ticks_left > 0:
        states.append(env.get_state())
        action = expert.act()
        subtasks.append(subtask_sentence(expert.phase, **goal))
        _, is_success, _, _ = env.advance(action if perturbation is None else perturbation.apply(action))
        ticks_left = min(ticks_left - 1, TICKS_AFTER_SUCCESS) if is_success else ticks_left - 1
    return states, subtasks


def _choose_ticks(subtasks: list[str], rng: np.random.Generator) -> list[int]:
    chosen = {0}
    for subtask in dict.fromkeys(subtasks):
        ticks = [tick for tick, words in enumerate(subtasks) if words == subtask]
        chosen.update(rng.choice(ticks, min(FRAMES_PER_SUBTASK, len(ticks)), replace=False).tolist())
    return sorted(chosen)


def _goal_words(actors: Actors) -> dict[str, str]:
    """Return what the expert moves and where to, as `subtask_sentence` takes it."""
    expert = actors.expert
    if not isinstance(expert, NarratingExpert):
        raise OptionError(
            f"{type(expert).__name__} does not say what it acts on; use another env.expert, or give it the attributes of "
            "opentau.protocols.NarratingExpert"
        )
    objects = actors.env.ground_truth()["objects"]
    return goal_words(expert, {key: described["name"] for key, described in objects.items()})


def _look(env: GroundedEnv, *, episode: int, tick: int, subtask: str) -> Moment:
    images: dict[str, Any] = env.observe()["images"]
    frame = SceneFrame(
        episode=episode,
        tick=tick,
        prompt=env.prompt,
        cameras=tuple(images),
        truth=env.ground_truth(),
        subtask=subtask,
    )
    return Moment(frame=frame, images=images)
