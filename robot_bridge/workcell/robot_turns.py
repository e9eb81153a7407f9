"""Who acts in a control tick of a robot: the policy, a human, or nobody; and what becomes of it within the limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from opentau.errors import OptionError
from opentau.types import EpisodePlan, Phase, Source
from robot_bridge.playing.playback import PolicyPlayback
from robot_bridge.playing.track import EpisodeTrack, Turn
from robot_bridge.workcell.robot_env import Played, RobotEnv
from robot_bridge.workcell.safety import Hold
from robot_bridge.workcell.takeover import Takeover, TakeoverOptions


class RobotTurns:
    """Play one episode on a robot, tick by tick; what is recorded is what the robot was sent.

    From the moment a human takes over until they have let go, frames are an intervention (a demonstration, where there is no
    policy); `fsm_state` tells the pause and the alignment from what the human did.
    """

    def __init__(
        self,
        plan: EpisodePlan,
        *,
        robot: RobotEnv,
        playback: PolicyPlayback | None,
        track: EpisodeTrack,
        options: TakeoverOptions,
    ) -> None:
        """`playback` is None for a demonstration."""
        if playback is None and robot.teleop is None:
            raise OptionError(f"episode {plan.episode_id} is a demonstration on a robot; set `teleop` to the human's device")
        self._robot, self._drive = robot, robot.drive
        self._teleop = robot.teleop
        self._playback = playback
        self._track = track
        self._options = options
        self._is_wandering = False
        self._takeover = Takeover(options, has_policy=playback is not None)

    def play(self, tick: int, observation: Mapping[str, Any]) -> tuple[Turn, Played]:
        """Play one control tick."""
        pose = None if self._teleop is None else self._teleop.pose()
        proposed = self._receive(tick)
        before = self._takeover.phase
        phase = self._takeover.step(
            is_held=self._is_held(),
            is_still=self._drive.is_still,
            gap=self._drive.gap_to(pose),
            has_plan=proposed is not None,
        )
        if phase in (Phase.AUTONOMOUS, Phase.RESUME):
            proposed, played = self._play_policy(tick, observation, phase)
        else:
            self._interrupt(was=before)
            played = self._play_human(observation, phase, pose)
        self._heed(played)
        return self._turn(phase, played, proposed), played

    def _is_held(self) -> bool:
        if self._teleop is None:
            return False
        return (self._playback is None and self._options.demonstrator_holds) or self._teleop.wants_control()

    def _receive(self, tick: int) -> np.ndarray | None:
        """Take what has arrived; return the policy's action for this tick, if it has one."""
        if self._playback is None:
            return None
        self._playback.receive(tick)
        if self._track.policy_version:
            self._robot.note_policy(self._track.policy_version)
        return self._playback.executor.action(tick)

    def _play_policy(self, tick: int, observation: Mapping[str, Any], phase: Phase) -> tuple[np.ndarray | None, Played]:
        assert self._playback is not None, "without a policy nobody but the human acts"
        # Whatever is planned from here would begin elsewhere: the robot is on its way to its safe pose.
        action = None if self._is_wandering else self._playback.next_action(tick, observation)
        if phase is Phase.RESUME:
            return None, self._robot.rest()
        self._playback.note_played(tick, action)
        return action, self._robot.hold() if action is None else self._robot.play(action)

    def _play_human(self, observation: Mapping[str, Any], phase: Phase, pose: np.ndarray | None) -> Played:
        if phase is Phase.HUMAN:
            assert self._teleop is not None, "only a device takes over"
            return self._robot.play(np.asarray(self._teleop.act(observation["state"]), np.float32))
        if phase is Phase.ALIGN and self._options.moves_robot and pose is not None:
            return self._robot.play(self._drive.pose_as_action(pose), speed=self._options.align_speed)
        return self._robot.rest()

    def _interrupt(self, *, was: Phase) -> None:
        if self._playback is not None and was in (Phase.AUTONOMOUS, Phase.RESUME):
            self._playback.interrupt()

    def _heed(self, played: Played) -> None:
        """Drop plans that no longer fit the robot: it moved on its own, or stood still unplanned for long."""
        self._is_wandering = played.executed.level is Hold.SAFE_POSE and not self._drive.is_still
        has_stalled = played.num_missed >= self._drive.stale_after_ticks
        if has_stalled:
            self._drive.forgive_stall()
        if self._playback is not None and (self._is_wandering or has_stalled):
            self._playback.interrupt()
        self._track.num_clipped_actions += bool(played.executed.clips.any())

    def _turn(self, phase: Phase, played: Played, proposed: np.ndarray | None) -> Turn:
        source = Source.AUTONOMOUS if phase in (Phase.AUTONOMOUS, Phase.RESUME) else Source.INTERVENTION
        return Turn(
            source=Source.DEMONSTRATION if self._playback is None else source,
            action=played.executed.action,
            executed_action=played.executed.action,
            policy_action=proposed,
            subtask=self._playback.said if self._playback is not None and phase is Phase.AUTONOMOUS else "",
            robot=self._drive.columns(played.executed, phase),
        )
