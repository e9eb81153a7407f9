"""Meta-World's own scripted policies as experts."""

from __future__ import annotations

import warnings

import numpy as np

from envs.gymnasium.environment import GymnasiumEnv

SLOWEST = 0.7
"""Smallest pace that a demonstration's style draws."""


class ScriptedExpert:
    """The policy that Meta-World ships for a task; it reads object and goal, and acts from any state."""

    phase = "act"

    def __init__(self, env: GymnasiumEnv) -> None:
        from metaworld.policies import ENV_POLICY_MAP  # Meta-World is in an interpreter of its own

        self._env = env
        self._policy = ENV_POLICY_MAP[env.make_args["env_name"]]()
        self._pace = 1.0

    def start(self, *, seed: int, is_clean: bool) -> None:
        """Begin; unless clean, a pace between 0.7 and 1 comes from the seed."""
        self._pace = 1.0 if is_clean else float(np.random.default_rng(seed).uniform(SLOWEST, 1.0))

    def act(self) -> np.ndarray:
        """Return the next action, float32 [4] in [-1, 1]: steps of the hand, and the gripper's effort."""
        with warnings.catch_warnings():  # it warns of every action that has to be clipped
            warnings.simplefilter("ignore", UserWarning)
            action = np.asarray(self._policy.get_action(self._env.numbers), np.float32)
        action = np.clip(action, -1.0, 1.0)
        action[:3] *= self._pace
        return action
