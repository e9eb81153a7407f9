"""How a station plays one planned episode in virtual time: who acts in each control step, and what is kept of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from opentau.errors import OptionError, PolicyError
from opentau.protocols import Expert, Perturbation, StepEnv, Supervisor
from opentau.subtasks import narrated
from opentau.types import Actor, EpisodePlan, Observation, Outcome, PolicyRequest, Source, derive_seed
from robot_bridge.executor import ChunkExecutor
from robot_bridge.payloads import ChunkReply, PlayedEpisode
from robot_bridge.track import EpisodeTrack, Turn


class PolicyLink(Protocol):
    """The player's way to a served policy."""

    def ask(self, plan: EpisodePlan, request: PolicyRequest, *, seq: int) -> None:
        """Send an observation and return at once."""
        ...

    def next_reply(self) -> ChunkReply:
        """Wait for the next chunk of any request; raises `LinkError` when none comes in time."""
        ...

    def next_seq(self) -> int:
        """Return a request number that was never used before."""
        ...


class EpisodePlayer:
    """Play episodes on one environment.

    Time is counted in control steps: the environment waits for its chunks, and a delay is injected as so many steps
    that are played from the former chunk. An episode is a function of its plan, the environment and the checkpoint.
    """

    def __init__(
        self,
        env: StepEnv,
        *,
        expert: Expert | None = None,
        supervisor: Supervisor | None = None,
        perturbation: Perturbation | None = None,
        link: PolicyLink,
        execute_horizon: int,
        delay_ticks: int,
        on_tick: Callable[[], None],
    ) -> None:
        self._env = env
        self._expert = expert
        self._supervisor = supervisor
        self._perturbation = perturbation
        self._link = link
        self._execute_horizon = execute_horizon
        self._delay_ticks = delay_ticks
        self._on_tick = on_tick
        space = env.action_space  # type: ignore[attr-defined]  # every gymnasium environment has one
        self._low, self._high = np.asarray(space.low, np.float32), np.asarray(space.high, np.float32)
        self._control_hz = float(env.metadata["interface"]["control_hz"])

    def play(self, plan: EpisodePlan) -> PlayedEpisode:
        """Play a plan to its end; whatever environment, expert or policy raise goes through."""
        self._start(plan)
        while True:
            self._on_tick()
            observation = self._env.observe() if self._must_observe() else None
            sim_state = self._env.get_state()
            turn = self._take_turn(observation)
            reward, is_terminated, is_truncated, info = self._env.advance(turn.executed_action)
            self._track.add(turn, observation=observation, sim_state=sim_state, reward=reward)
            self._tick += 1
            if is_terminated or is_truncated:
                break
        if is_terminated:
            return self._finish(Outcome.SUCCESS if info["is_success"] else Outcome.FAILURE)
        return self._finish(Outcome.TIMEOUT)

    def _start(self, plan: EpisodePlan) -> None:
        self._plan = plan
        self._tick = 0
        self._is_intervening = False
        self._said = ""
        """What the policy said last that it is about."""
        self._track = EpisodeTrack(plan)
        self._executor = ChunkExecutor(
            episode_id=plan.episode_id, execute_horizon=self._execute_horizon, delay_ticks=self._delay_ticks
        )
        official = None if plan.initial_state is None else {"initial_state": plan.initial_state}
        self._env.reset(seed=derive_seed(plan.seed, "env"), options=official)
        if plan.is_supervised:
            self._require_supervisor().start(plan)
        if plan.actor is Actor.EXPERT:
            expert = self._require_expert()
            expert.start(seed=derive_seed(plan.seed, "expert"), is_clean=False)
            self._track.policy_version = type(expert).__name__
            if self._perturbation is not None:
                self._perturbation.start(seed=derive_seed(plan.seed, "perturbation"))

    def _finish(self, outcome: Outcome) -> PlayedEpisode:
        return PlayedEpisode(
            result=self._track.result(outcome, final_sim_state=self._env.get_state()),
            episode=self._track.episode(outcome, prompt=self._env.prompt, env_id=self._env.env_id),
            prompt=self._env.prompt,
            env_id=self._env.env_id,
            num_clipped_actions=self._track.num_clipped_actions,
            num_fallbacks=self._track.num_fallbacks,
            num_refused_chunks=self._executor.num_refused,
        )

    def _must_observe(self) -> bool:
        if self._plan.is_recorded or self._plan.is_supervised:
            return True
        return self._plan.actor is Actor.POLICY and self._executor.needs_request(self._tick)

    def _take_turn(self, observation: dict[str, Any] | None) -> Turn:
        if self._plan.actor is Actor.EXPERT:
            action = self._clip(self._require_expert().act())
            executed = action if self._perturbation is None else self._clip(self._perturbation.apply(action))
            return Turn(
                source=Source.DEMONSTRATION,
                action=action,
                executed_action=executed,
                policy_action=None,
                subtask=self._subtask(),
            )
        had_control = self._is_intervening
        if had_control and self._wants_control(observation, value=None):
            return self._intervene(proposed=None)
        self._is_intervening = False
        proposed, value = self._next_policy_action(observation)
        if self._plan.is_supervised and not had_control and self._wants_control(observation, value=value):
            self._is_intervening = True
            self._executor.interrupt()
            self._require_expert().start(seed=derive_seed(self._plan.seed, "takeover", self._tick), is_clean=True)
            return self._intervene(proposed=proposed)
        action = self._clip(proposed)
        return Turn(source=Source.AUTONOMOUS, action=action, executed_action=action, policy_action=proposed, subtask=self._said)

    def _wants_control(self, observation: dict[str, Any] | None, *, value: float | None) -> bool:
        assert observation is not None, "supervised steps are observed"
        return self._require_supervisor().wants_control(
            tick=self._tick, state=observation["state"], value=value, is_intervening=self._is_intervening
        )

    def _intervene(self, *, proposed: np.ndarray | None) -> Turn:
        action = self._clip(self._require_expert().act())
        return Turn(
            source=Source.INTERVENTION,
            action=action,
            executed_action=action,
            policy_action=proposed,
            subtask=self._subtask(),
        )

    def _subtask(self) -> str:
        """Return what the expert is about, in words, where it and the environment tell."""
        return narrated(self._expert, getattr(self._env, "object_names", None)) if self._plan.is_recorded else ""

    def _next_policy_action(self, observation: dict[str, Any] | None) -> tuple[np.ndarray, float | None]:
        """Ask, wait and play by the executor's rules; the value is given in the step in which its chunk is taken."""
        tick, value = self._tick, None
        if self._executor.needs_request(tick):
            assert observation is not None, "requests are made from observations"
            self._ask(observation)
        while self._executor.is_waiting(tick):
            value = self._take_reply(self._link.next_reply())
        return np.asarray(self._executor.action(tick), np.float32), value

    def _ask(self, observation: dict[str, Any]) -> None:
        seq = self._link.next_seq()
        prefix = self._executor.request(self._tick, seq=seq)
        seen = Observation(
            images=observation["images"],
            state=np.asarray(observation["state"], np.float32),
            prompt=self._env.prompt,
            time_s=self._tick / self._control_hz,
        )
        request = PolicyRequest(observation=seen, episode_seed=self._plan.seed, tick=self._tick, prefix=prefix)
        self._asked_at = self._tick
        self._link.ask(self._plan, request, seq=seq)

    def _take_reply(self, reply: ChunkReply) -> float | None:
        if not self._executor.accept(reply):
            return None
        chunk = reply.chunk
        if not np.isfinite(chunk.actions).all():
            raise PolicyError(
                f"policy {chunk.policy_version} proposed actions that are not finite for the observation of tick "
                f"{self._asked_at}; nothing of it was played. Its training or its statistics are broken"
            )
        self._track.policy_version = self._track.policy_version or chunk.policy_version
        self._said = chunk.subtask
        self._track.num_fallbacks += chunk.fallback is not None
        if chunk.value is not None:
            self._track.set_value(self._asked_at, chunk.value)
        return chunk.value

    def _clip(self, action: np.ndarray) -> np.ndarray:
        clipped = np.clip(np.asarray(action, np.float32), self._low, self._high)
        if not np.array_equal(clipped, action):
            self._track.num_clipped_actions += 1
        return clipped

    def _require_expert(self) -> Expert:
        if self._expert is None:
            raise OptionError(f"episode {self._plan.episode_id} needs an expert; set `expert` to one for {self._env.task_id}")
        return self._expert

    def _require_supervisor(self) -> Supervisor:
        if self._supervisor is None:
            raise OptionError(f"episode {self._plan.episode_id} is supervised; set `supervisor`")
        return self._supervisor
