"""Who acts in a control step of a simulator: a demonstrating expert, or a policy that an expert may relieve."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from opentau.protocols import Expert, Perturbation, StepEnv, Supervisor
from opentau.subtasks import narrated
from opentau.types import EpisodePlan, Source, derive_seed
from robot_bridge.playing.hands import Hands
from robot_bridge.playing.playback import PolicyPlayback
from robot_bridge.playing.track import Turn

Clip = Callable[[np.ndarray], np.ndarray]
"""Clips an action [A] to the action space and counts those that it changed."""


class Turns(Protocol):
    """Decides who acts, step by step, in one episode."""

    def needs_observation(self, tick: int) -> bool:
        """Return whether somebody has to see what is there in this step."""
        ...

    def take(self, tick: int, observation: Mapping[str, Any] | None) -> Turn:
        """Return what is done in this step."""
        ...


def subtask_of(expert: Expert | None, env: StepEnv, plan: EpisodePlan) -> str:
    """Return what the expert is about, in words, where it and the environment tell."""
    return narrated(expert, getattr(env, "object_names", None)) if plan.is_recorded else ""


class DemonstrationTurns:
    """An expert acts from the first step to the last."""

    def __init__(
        self, plan: EpisodePlan, *, env: StepEnv, expert: Expert, perturbation: Perturbation | None, clip: Clip
    ) -> None:
        self._plan, self._env, self._expert, self._perturbation, self._clip = plan, env, expert, perturbation, clip
        expert.start(seed=derive_seed(plan.seed, "expert"), is_clean=False)
        if perturbation is not None:
            perturbation.start(seed=derive_seed(plan.seed, "perturbation"))

    def needs_observation(self, tick: int) -> bool:
        return False

    def take(self, tick: int, observation: Mapping[str, Any] | None) -> Turn:
        action = self._clip(self._expert.act())
        executed = action if self._perturbation is None else self._clip(self._perturbation.apply(action))
        return Turn(
            source=Source.DEMONSTRATION,
            action=action,
            executed_action=executed,
            policy_action=None,
            subtask=subtask_of(self._expert, self._env, self._plan),
        )


class PolicyTurns:
    """A policy acts; where the plan is supervised, an expert takes over and hands back as the supervisor says."""

    def __init__(
        self,
        plan: EpisodePlan,
        *,
        env: StepEnv,
        playback: PolicyPlayback,
        supervisor: Supervisor | None,
        expert: Callable[[], Expert],
        clip: Clip,
    ) -> None:
        """`expert` returns who takes over, and raises `OptionError` where there is nobody."""
        self._plan, self._env, self._playback, self._clip = plan, env, playback, clip
        self._supervisor, self._expert = supervisor, expert
        self._is_intervening = False
        if supervisor is not None:
            supervisor.start(plan)

    def needs_observation(self, tick: int) -> bool:
        self._playback.receive(tick)
        return self._supervisor is not None or self._playback.needs_observation(tick)

    def take(self, tick: int, observation: Mapping[str, Any] | None) -> Turn:
        had_control = self._is_intervening
        if had_control and self._wants_control(tick, observation, value=None):
            return self._intervene(proposed=None)
        self._is_intervening = False
        proposed = self._playback.next_action(tick, observation)
        if not had_control and self._wants_control(tick, observation, value=self._playback.value):
            self._is_intervening = True
            self._playback.interrupt()
            self._expert().start(seed=derive_seed(self._plan.seed, "takeover", tick), is_clean=True)
            return self._intervene(proposed=proposed)
        wanted = self._playback.note_played(tick, proposed)
        assert wanted is not None, "in virtual time the first chunk comes at once"
        action = self._clip(wanted)
        return Turn(
            source=Source.AUTONOMOUS,
            action=action,
            executed_action=action,
            policy_action=proposed,
            subtask=self._playback.said,
        )

    def interrupt(self, tick: int) -> np.ndarray | None:
        """Let somebody else act from `tick` on; return what the policy had planned for it."""
        proposed = None if self._is_intervening else self._playback.executor.action(tick)
        self._playback.interrupt()
        return proposed

    def resume(self, tick: int) -> None:
        """Go on from wherever that led: who had control plans afresh."""
        if self._is_intervening:
            self._expert().start(seed=derive_seed(self._plan.seed, "takeover", tick), is_clean=True)

    def _wants_control(self, tick: int, observation: Mapping[str, Any] | None, *, value: float | None) -> bool:
        if self._supervisor is None:
            return False
        assert observation is not None, "supervised steps are observed"
        return self._supervisor.wants_control(
            tick=tick, state=observation["state"], value=value, is_intervening=self._is_intervening
        )

    def _intervene(self, *, proposed: np.ndarray | None) -> Turn:
        expert = self._expert()
        action = self._clip(expert.act())
        return Turn(
            source=Source.INTERVENTION,
            action=action,
            executed_action=action,
            policy_action=proposed,
            subtask=subtask_of(expert, self._env, self._plan),
        )


class SteeredTurns:
    """A human elsewhere may take the episode in hand at any step, and hands it back to whoever acted before."""

    def __init__(self, turns: PolicyTurns | DemonstrationTurns, *, hands: Hands, clip: Clip) -> None:
        self._turns, self._hands, self._clip = turns, hands, clip
        self._is_in_hand = False
        self._last: np.ndarray | None = None

    def needs_observation(self, tick: int) -> bool:
        self._hands.attend(tick)
        return bool(self._hands.operator) or self._go_on(tick)

    def take(self, tick: int, observation: Mapping[str, Any] | None) -> Turn:
        turn = self._take_in_hand(tick, observation) if self._hands.operator else None
        if turn is None:
            turn = self._turns.take(tick, observation)
        self._last = turn.executed_action
        return turn

    def _take_in_hand(self, tick: int, observation: Mapping[str, Any] | None) -> Turn | None:
        """Wait for what the human does in this step; None where the episode was handed back instead."""
        assert observation is not None, "what is in hand is observed"
        assert isinstance(self._turns, PolicyTurns), "only a policy's episode is taken in hand"
        proposed = None if self._is_in_hand else self._turns.interrupt(tick)
        self._is_in_hand = True
        self._hands.show(observation)
        wanted = self._hands.next_action(observation["state"], last=self._last)
        if wanted is None:
            self._go_on(tick)
            return None
        action = self._clip(wanted)
        return Turn(source=Source.INTERVENTION, action=action, executed_action=action, policy_action=proposed)

    def _go_on(self, tick: int) -> bool:
        """Let the others act in this step; return whether they need an observation."""
        if self._is_in_hand:
            self._is_in_hand = False
            assert isinstance(self._turns, PolicyTurns), "only a policy's episode is taken in hand"
            self._turns.resume(tick)
        return self._turns.needs_observation(tick)
