"""How a station plays one planned episode: in virtual time on a simulator, in real time on a robot; and what is kept of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from opentau.errors import LinkError, OptionError, RobotError
from opentau.protocols import Expert, Perturbation, StepEnv, Supervisor
from opentau.types import Actor, EpisodePlan, Interface, Outcome, derive_seed
from robot_bridge.playing.chunking import DelayEstimate
from robot_bridge.playing.hands import Hands
from robot_bridge.playing.playback import PlaybackOptions, PolicyLink, PolicyPlayback
from robot_bridge.playing.report import PlaybackReport
from robot_bridge.playing.track import EpisodeTrack
from robot_bridge.playing.turns import DemonstrationTurns, PolicyTurns, SteeredTurns, Turns
from robot_bridge.wire.payloads import PlayedEpisode
from robot_bridge.workcell.robot_env import RobotEnv
from robot_bridge.workcell.robot_turns import RobotTurns
from robot_bridge.workcell.takeover import TakeoverOptions

End = tuple[Outcome, str]
"""How an episode ended, and why in words."""


class EpisodePlayer:
    """Play episodes on one environment.

    On a simulator time is counted in control steps: the environment waits for its chunks, and a delay is injected as so many
    steps. An episode is a function of its plan, the environment and the checkpoint. On a robot time passes: nothing is waited
    for, and an episode that loses its server or its hardware is returned as far as it came, aborted.
    """

    def __init__(
        self,
        env: StepEnv,
        *,
        expert: Expert | None = None,
        supervisor: Supervisor | None = None,
        perturbation: Perturbation | None = None,
        link: PolicyLink | None,
        options: PlaybackOptions,
        takeover: TakeoverOptions | None = None,
        delay: DelayEstimate | None = None,
        reports: bool = False,
        hands: Hands | None = None,
        on_tick: Callable[[], None],
    ) -> None:
        """`link` is None where nothing but demonstrations is played.

        `takeover` and `delay`, which is measured over all episodes of a link, are for robots.

        `reports`: whether a simulator's episodes come with a `PlaybackReport`, as a robot's do. `hands`: of somebody elsewhere
        who may take a simulator's episodes over.
        """
        self._env = env
        self._robot = env if isinstance(env, RobotEnv) else None
        self._expert = expert
        self._supervisor = supervisor
        self._perturbation = perturbation
        self._link = link
        self._options = options
        self._takeover = takeover or TakeoverOptions()
        self._delay = delay
        self._reports = reports or self._robot is not None
        self._hands = hands
        self._on_tick = on_tick
        space = env.action_space  # type: ignore[attr-defined]  # every gymnasium environment has one
        self._low, self._high = np.asarray(space.low, np.float32), np.asarray(space.high, np.float32)

    def play(self, plan: EpisodePlan) -> PlayedEpisode:
        """Play a plan to its end; whatever environment, expert or policy raise goes through."""
        self._start(plan)
        return self._finish(*self._play_simulator()) if self._robot is None else self._finish(*self._play_robot(self._robot))

    def _start(self, plan: EpisodePlan) -> None:
        self._plan = plan
        self._tick = 0
        self._track = EpisodeTrack(plan)
        self._playback: PolicyPlayback | None = None
        if self._robot is not None:
            self._robot.begin(plan)
        official = None if plan.initial_state is None else {"initial_state": plan.initial_state}
        self._env.reset(seed=derive_seed(plan.seed, "env"), options=official)
        if plan.actor is Actor.POLICY:
            if self._link is None:
                raise OptionError(f"episode {plan.episode_id} is a policy's, and there is no link to one; plan a demonstration")
            self._playback = PolicyPlayback(
                plan,
                link=self._link,
                track=self._track,
                prompt=self._env.prompt,
                options=self._options,
                delay=self._delay,
            )

    def _play_simulator(self) -> End:
        turns = self._turns()
        if self._hands is None:
            return self._play_turns(turns)
        self._hands.begin(self._plan, Interface.from_dict(self._env.metadata["interface"]))
        try:
            return self._play_turns(SteeredTurns(turns, hands=self._hands, clip=self._clip))
        finally:
            self._hands.end()

    def _play_turns(self, turns: Turns) -> End:
        while True:
            self._on_tick()
            must_observe = turns.needs_observation(self._tick) or self._plan.is_recorded
            observation = self._env.observe() if must_observe else None
            sim_state = self._env.get_state()
            turn = turns.take(self._tick, observation)
            reward, is_terminated, is_truncated, info = self._env.advance(turn.executed_action)
            self._track.add(turn, observation=observation, sim_state=sim_state, reward=reward)
            self._tick += 1
            if is_terminated:
                return (Outcome.SUCCESS if info["is_success"] else Outcome.FAILURE), ""
            if is_truncated:
                return Outcome.TIMEOUT, ""

    def _play_robot(self, robot: RobotEnv) -> End:
        """Play in real time; a lost server or failing hardware end the episode, and what was recorded of it is kept."""
        end: End = Outcome.ERROR, ""
        try:
            end = self._play_ticks(robot)
        except LinkError as error:
            end = Outcome.ABORTED, f"the link was lost: {error}"
        except RobotError as error:
            end = Outcome.ABORTED, str(error)
            robot.lose_hardware(error)
        finally:
            robot.end(end[0])
        return end

    def _play_ticks(self, robot: RobotEnv) -> End:
        turns = RobotTurns(self._plan, robot=robot, playback=self._playback, track=self._track, options=self._takeover)
        while True:
            self._on_tick()
            observation = robot.observe()
            turn, played = turns.play(self._tick, observation)
            reward = float(played.outcome is Outcome.SUCCESS)
            self._track.add(turn, observation=observation, sim_state=robot.get_state(), reward=reward)
            self._tick += 1
            if played.outcome is not None:
                return played.outcome, played.message

    def _turns(self) -> PolicyTurns | DemonstrationTurns:
        plan = self._plan
        if plan.actor is Actor.EXPERT:
            expert = self._require_expert()
            self._track.policy_version = type(expert).__name__
            return DemonstrationTurns(plan, env=self._env, expert=expert, perturbation=self._perturbation, clip=self._clip)
        assert self._playback is not None, "a policy acts"
        return PolicyTurns(
            plan,
            env=self._env,
            playback=self._playback,
            supervisor=self._require_supervisor() if plan.is_supervised else None,
            expert=self._require_expert,
            clip=self._clip,
        )

    def _finish(self, outcome: Outcome, message: str) -> PlayedEpisode:
        env = self._env
        limits_id = "" if self._robot is None else self._robot.limits_id
        return PlayedEpisode(
            result=self._track.result(outcome, final_sim_state=env.get_state(), message=message),
            episode=self._track.episode(outcome, prompt=env.prompt, env_id=env.env_id, limits_id=limits_id),
            prompt=env.prompt,
            env_id=env.env_id,
            num_clipped_actions=self._track.num_clipped_actions,
            num_fallbacks=self._track.num_fallbacks,
            num_refused_chunks=0 if self._playback is None else self._playback.executor.num_refused,
            limits_id=limits_id,
            report=self._report() if self._reports else None,
        )

    def _report(self) -> PlaybackReport:
        of_robot = {} if self._robot is None else self._report_of(self._robot)
        if self._playback is None:
            return PlaybackReport(seams=None, **of_robot)
        executor = self._playback.executor
        return PlaybackReport(
            seams=self._playback.meter.seams(),
            delay_ticks=executor.delay_ticks,
            num_held=self._playback.num_held,
            num_stale=executor.num_stale,
            num_foreign=executor.num_foreign,
            num_late=executor.num_late,
            num_unanswered=executor.num_unanswered,
            **of_robot,
        )

    def _report_of(self, robot: RobotEnv) -> dict[str, Any]:
        acting_s = self._track.num_intervention_steps / self._options.control_hz
        return {"timing": robot.timing, "is_first_run": robot.is_first_run, "human_s": robot.setup_s + acting_s}

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
