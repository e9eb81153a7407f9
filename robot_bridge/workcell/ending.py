"""How a robot's episode ends: by the stop, a person's word, its last step, or because nobody commanded the robot for long."""

from __future__ import annotations

from dataclasses import dataclass

from opentau.types import EpisodePlan, Outcome
from robot_bridge.workcell.cell import Workcell
from robot_bridge.workcell.drive import Drive
from robot_bridge.workcell.safety import Executed, Hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The rules by which episodes of one task end."""

    cell: Workcell
    drive: Drive
    max_steps: int
    label_wait_s: float
    """How long somebody has, after the last step, to say what came of an episode; else it is a timeout."""

    def after(self, executed: Executed, *, plan: EpisodePlan, num_steps: int) -> tuple[Outcome | None, str]:
        """Return how the episode ended with this tick, None where it goes on, and why in words."""
        if executed.level is Hold.STOPPED and self.drive.is_still:
            return Outcome.ABORTED, f"stopped: {self.cell.latch.reason or 'by the latched stop'}"
        verdict = self._verdict(plan, num_steps=num_steps)
        if verdict is None and num_steps >= self.max_steps:
            verdict = self._late_verdict(plan, num_steps=num_steps)
        if verdict is not None:
            return verdict, "discarded" if verdict is Outcome.ABORTED else ""
        silence_s, limit_s = self.drive.silence_s, self.cell.limits.abort_after_s
        if silence_s > limit_s:
            return Outcome.ABORTED, f"no fresh action for {silence_s:.1f} s, the limit is {limit_s:g} s"
        return None, ""

    def _verdict(self, plan: EpisodePlan, *, num_steps: int) -> Outcome | None:
        verdict = self.cell.teleop.verdict() if self.cell.teleop is not None else None
        return verdict or self.cell.operator.verdict(plan, tick=num_steps)

    def _late_verdict(self, plan: EpisodePlan, *, num_steps: int) -> Outcome:
        """Hold until somebody says how the episode ended, or nobody does in time."""
        since_s, is_said = self.drive.now_s, False
        while self.drive.now_s - since_s < self.label_wait_s:
            if not is_said:
                self.cell.say(f"the time is over: how did it end? {self.label_wait_s:g} s to say")
                is_said = True
            self.drive.idle()
            if (verdict := self._verdict(plan, num_steps=num_steps)) is not None:
                return verdict
        return Outcome.TIMEOUT
