"""A device without a human: a simulator's expert corrects an emulated arm, by the rules of a simulator's supervisor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from opentau.config import build
from opentau.protocols import Expert, StepEnv, Supervisor
from opentau.types import EpisodePlan, Interface, Outcome, derive_seed
from robot_bridge.robots.emulator_control import EmulatorClient


class ExpertTeleop:
    """Watches the emulator's scene, takes over when the supervisor says so, and has an expert bring the task to its end.

    The expert acts on an environment of its own, which is put into the emulator's state in every control tick. Episodes that
    nobody may correct (`EpisodePlan.is_supervised`) are left alone. There is no pose: it takes over where the robot is.
    """

    def __init__(
        self,
        *,
        interface: Interface,
        control: str,
        env: Mapping[str, Any],
        expert: Mapping[str, Any],
        supervisor: Mapping[str, Any],
    ) -> None:
        """`control`: endpoint of the emulator's control socket. `env` must have the emulator's plant and the robot's units.

        Its pictures are not looked at; make them small.
        """
        del interface
        self._control = control
        self._env: StepEnv = build(env)
        self._expert: Expert = build(expert, getattr(self._env, "unwrapped", self._env))
        self._supervisor: Supervisor = build(supervisor, max_steps=self._env.max_steps)
        self._client: EmulatorClient | None = None
        self._plan: EpisodePlan | None = None

    def start(self, plan: EpisodePlan) -> None:
        self._plan = plan if plan.is_supervised else None
        self._supervisor.start(plan)
        self._tick = -1
        self._is_acting = self._has_begun = False

    def connect(self) -> None:
        """Open the way to the emulator."""
        self._client = self._client or EmulatorClient(self._control)
        self._env.observe()  # the first picture takes long, which no control tick has time for

    def wants_control(self) -> bool:
        """Return whether the switch is held in this control tick; asked once in each."""
        self._tick += 1
        if self._plan is None or self._client is None:
            return False
        self._env.set_state(np.array(self._client.ask("state")))
        self._is_acting = self._supervisor.wants_control(
            tick=self._tick, state=self._env.observe()["state"], value=None, is_intervening=self._is_acting
        )
        self._has_begun = self._has_begun and self._is_acting
        return self._is_acting

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return the expert's action, float32 [A], from what it sees in this tick."""
        del state
        assert self._plan is not None, "episodes that nobody may correct are left alone"
        if not self._has_begun:  # not when the switch was pressed: the robot has come to rest since
            self._expert.start(seed=derive_seed(self._plan.seed, "takeover", self._tick), is_clean=True)
            self._has_begun = True
        return self._expert.act()

    def pose(self) -> np.ndarray | None:
        return None

    def verdict(self) -> Outcome | None:
        return None

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
