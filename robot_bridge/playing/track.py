"""What a station writes down while an episode is played: the columns of a recording and the digest of what happened."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from opentau.types import ROBOT_COLUMNS, Episode, EpisodePlan, EpisodeResult, Outcome, Source

# Shapes: T control steps, A action dimensions, N numbers of a simulator state.


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What is done in one control step, and by whom."""

    source: Source
    action: np.ndarray
    """What the acting agent commanded, clipped to the action space, float32 [A]."""
    executed_action: np.ndarray
    """What goes to the environment, float32 [A]."""
    policy_action: np.ndarray | None
    """What the policy proposed, float32 [A]; None where none was asked."""
    subtask: str = ""
    """What the acting expert or policy is about, in words."""
    robot: Mapping[str, Any] | None = None
    """This frame's `ROBOT_COLUMNS`, on robots."""


class EpisodeTrack:
    """Collect one episode's steps; frames are kept only where the plan asks for them."""

    def __init__(self, plan: EpisodePlan) -> None:
        self._plan = plan
        self._digest = hashlib.sha256()
        self._observations: list[Mapping[str, Any]] = []
        self._turns: list[Turn] = []
        self._sim_states: list[np.ndarray] = []
        self._rewards: list[float] = []
        self._values: dict[int, float] = {}
        self.num_steps = 0
        self.num_intervention_steps = 0
        self.num_clipped_actions = 0
        """Steps in which the action space or a robot's limits changed what was asked for."""
        self.num_fallbacks = 0
        self.policy_version = ""
        """Who acts: the checkpoint that answered first, or the expert's name."""

    def add(self, turn: Turn, *, observation: Mapping[str, Any] | None, sim_state: np.ndarray, reward: float) -> None:
        """Write one control step down: what was seen and the simulator state before it, and the reward after it."""
        self._digest.update(np.ascontiguousarray(sim_state, np.float64).tobytes())
        self._digest.update(turn.executed_action.tobytes())
        self.num_steps += 1
        self.num_intervention_steps += turn.source is Source.INTERVENTION
        if self._plan.is_recorded:
            assert observation is not None, "a recorded step is an observed one"
            self._observations.append(observation)
            self._turns.append(turn)
            self._sim_states.append(sim_state)
            self._rewards.append(reward)

    def set_value(self, tick: int, value: float) -> None:
        """Note what the critic said of the observation of `tick`."""
        self._values[tick] = value

    def result(self, outcome: Outcome, *, final_sim_state: np.ndarray, message: str = "") -> EpisodeResult:
        """Return what is known without the frames; call it once, at the end."""
        self._digest.update(np.ascontiguousarray(final_sim_state, np.float64).tobytes())
        self._digest.update(outcome.encode())
        return EpisodeResult(
            plan=self._plan,
            outcome=outcome,
            num_steps=self.num_steps,
            num_intervention_steps=self.num_intervention_steps,
            policy_version=self.policy_version,
            digest=self._digest.hexdigest(),
            message=message,
        )

    def episode(self, outcome: Outcome, *, prompt: str, env_id: str, limits_id: str = "") -> Episode | None:
        """Return the recording, or None where none was asked for or nothing happened."""
        if not self._plan.is_recorded or not self._turns:
            return None
        turns = self._turns
        proposals = [np.full_like(t.action, np.nan) if t.policy_action is None else t.policy_action for t in turns]
        cameras = self._observations[0]["images"]
        return Episode(
            images={camera: np.stack([o["images"][camera] for o in self._observations]) for camera in cameras},
            state=np.stack([o["state"] for o in self._observations]).astype(np.float32),
            action=np.stack([turn.action for turn in turns]),
            policy_action=np.stack(proposals),
            executed_action=np.stack([turn.executed_action for turn in turns]),
            source=np.array([turn.source for turn in turns], np.int8),
            reward=np.array(self._rewards, np.float32),
            value=np.array([self._values.get(tick, np.nan) for tick in range(self.num_steps)], np.float32),
            sim_state=np.stack(self._sim_states).astype(np.float64),
            prompt=prompt,
            task_id=self._plan.task_id,
            outcome=outcome,
            seed=self._plan.seed,
            episode_id=self._plan.episode_id,
            env_id=env_id,
            policy_version=self.policy_version,
            subtasks=tuple(turn.subtask for turn in turns) if any(turn.subtask for turn in turns) else (),
            robot=_robot_columns(turns),
            limits_id=limits_id,
        )


def _robot_columns(turns: Sequence[Turn]) -> dict[str, np.ndarray]:
    frames = [turn.robot for turn in turns if turn.robot is not None]
    if len(frames) < len(turns):
        return {}
    return {name: np.stack([frame[name] for frame in frames]).astype(dtype) for name, dtype in ROBOT_COLUMNS.items()}
