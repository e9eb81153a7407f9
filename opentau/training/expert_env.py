"""An environment as an expert learns it: the privileged state, few action dimensions, the dense reward, no pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np

from opentau.config import locate
from opentau.errors import OptionError, near_matches
from opentau.protocols import StepEnv
from opentau.training.expert_options import ExpertOptions
from opentau.types import derive_seed

# Shapes: P numbers of the privileged state, D action dimensions that are learned, A all of them.

PRIVILEGED_STATE = "envs.experts.privileged:PrivilegedState"
"""Reads the state; named and not imported, because `envs` lies beside the core."""
STATE_LIMIT = 10.0
SUCCESS = "is_success"
HAND_SUFFIX = " from hand."
"""How the names of an object's position from the hand end, before the axis."""
REACH_GAIN, NEAR_M, NUM_CLOSING = 12.0, 0.015, 4
SEED_NOISE = 0.25


class LearnableEnv(StepEnv, Protocol):
    """What an environment offers beside, so that an expert can be trained on it."""

    def restart(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Begin an episode without rendering."""
        ...

    def shaped_reward(self) -> float:
        """Return a dense reward of the present state."""
        ...


class ExpertEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """Episodes of a fixed number of decisions; placements are numbered, so that equal seeds see equal ones."""

    def __init__(self, env: LearnableEnv, options: ExpertOptions, *, seed: int, purpose: str) -> None:
        """Raise OptionError where the environment has no dense reward or lacks one of the options' actions."""
        if not hasattr(env, "shaped_reward"):
            raise OptionError(
                f"{env.task_id} has no dense reward to learn by; experts are trained on env=robosuite/lift and its like"
            )
        known = env.metadata["interface"]["action_names"]
        for name in options.action_names:
            if name not in known:
                raise OptionError(f"learning.action_names has {name!r}.{near_matches(name, known)}")
        self.env, self._options, self._seed, self._purpose = env, options, seed, purpose
        self.actions = tuple(known.index(name) for name in options.action_names)
        self._num_actions = len(known)
        self._state = locate(PRIVILEGED_STATE)(env)
        self.state_names: tuple[str, ...] = self._state.names
        size = len(self.state_names)
        self.mean, self.scale = np.zeros(size, np.float32), np.ones(size, np.float32)
        self.observation_space = gymnasium.spaces.Box(-STATE_LIMIT, STATE_LIMIT, (size,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (len(self.actions),), np.float32)
        self._num_episodes = self._num_decisions = 0

    def read(self) -> np.ndarray:
        """Return the privileged state as it is, float32 [P]."""
        return self._state.read()

    def measure(self, states: Sequence[np.ndarray]) -> None:
        """Take mean and scale from states [P] that were seen; nothing is blown up beyond its least scale."""
        seen = np.array(states, np.float32)
        self.mean = seen.mean(axis=0)
        self.scale = np.maximum(seen.std(axis=0), self._state.least_scale)

    def scaled(self) -> np.ndarray:
        """Return the privileged state as networks read it, float32 [P]."""
        return np.clip((self._state.read() - self.mean) / self.scale, -STATE_LIMIT, STATE_LIMIT).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin the next numbered episode; a seed from outside is not needed and not used."""
        self.env.restart(seed=derive_seed(self._seed, self._purpose, self._num_episodes))
        self._num_episodes, self._num_decisions = self._num_episodes + 1, 0
        return self.scaled(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Hold an action [D]; the reward is the dense one of the state that follows, in which the episode may go on."""
        whole = np.zeros(self._num_actions)
        whole[list(self.actions)] = action
        is_success = False
        for _ in range(self._options.action_repeat):
            is_success = self.env.advance(whole)[1] or is_success
        self._num_decisions += 1
        is_over = self._num_decisions >= self._options.episode_decisions
        return self.scaled(), self.env.shaped_reward(), False, is_over, {SUCCESS: is_success}


class SeedPlayer:
    """Goes to an object with the fingers open, closes them and moves at random: what an untrained expert tries first.

    It knows nothing of the task; where the hand is not moved by dx, dy, dz and gripper, it acts at random.
    """

    def __init__(self, env: ExpertEnv, action_names: Sequence[str], *, seed: int) -> None:
        self._env, self._rng = env, np.random.default_rng(seed)
        self._names = list(action_names)
        is_hand = {"dx", "dy", "dz", "gripper"} <= set(action_names)
        first = [i for i, name in enumerate(env.state_names) if name.endswith(f"{HAND_SUFFIX}0")] if is_hand else []
        self._objects = [slice(index, index + 3) for index in first]

    def start(self) -> None:
        """Begin an episode: choose an object, and where to go with it."""
        self._object = self._rng.choice(len(self._objects)) if self._objects else None
        self._num_closed = 0
        self._away = self._rng.uniform(-1.0, 1.0, 3)

    def act(self) -> np.ndarray:
        """Return the next action, float32 [D]."""
        action = self._rng.normal(0.0, SEED_NOISE, len(self._names))
        if self._object is None:
            return self._rng.uniform(-1.0, 1.0, len(self._names)).astype(np.float32)
        way = self._env.read()[self._objects[self._object]]
        if self._num_closed == 0 and np.linalg.norm(way) > NEAR_M:
            move, grip = REACH_GAIN * way, -1.0
        else:
            self._num_closed += 1
            move, grip = (np.zeros(3) if self._num_closed <= NUM_CLOSING else self._away), 1.0
        for name, value in zip(("dx", "dy", "dz"), move, strict=True):
            action[self._names.index(name)] += value
        action[self._names.index("gripper")] += grip
        return np.clip(action, -1.0, 1.0).astype(np.float32)
