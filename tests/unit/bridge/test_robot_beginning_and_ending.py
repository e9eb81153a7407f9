"""What comes before a robot's episode and what ends it: the operator's part."""

from __future__ import annotations

import numpy as np
import pytest

from opentau.errors import RobotError
from opentau.types import EpisodePlan, Outcome
from robot_bridge.workcell.cell import Unattended
from tests.fakes import FakeArm
from tests.unit.bridge.rigs import require_within_limits, rig


class Operator:
    """Sets the scene up after a while and says in a given tick what came of the episode."""

    def __init__(self, *, ready_after: int, ends_at: int) -> None:
        self.num_polled, self._ready_after, self._ends_at = 0, ready_after, ends_at
        self.plans: set[str] = set()

    def prepare(self, plan: EpisodePlan) -> bool:
        self.num_polled += 1
        self.plans.add(plan.episode_id)
        return self.num_polled > self._ready_after

    def verdict(self, plan: EpisodePlan, *, tick: int) -> Outcome | None:
        return Outcome.SUCCESS if tick >= self._ends_at else None


def test_the_station_lives_while_the_operator_sets_the_scene_up_and_the_arm_begins_at_its_start_pose():
    operator, alive = Operator(ready_after=50, ends_at=7), []
    start = {"shoulder": 0.0, "elbow": 0.0, "gripper": 10.0}
    run = rig(operator=operator, limits={"start_pose": start}, on_wait=lambda: alive.append(1))
    played = run.play()
    assert operator.plans == {"e/0"}
    assert len(alive) > 50
    assert (played.result.outcome, played.result.num_steps) == (Outcome.SUCCESS, 7)
    np.testing.assert_allclose(played.episode.state[0], [0.0, 0.0, 10.0], atol=1.8)
    require_within_limits(run.arm.commands)
    assert run.said == ["waiting for the scene to be set up"]
    assert played.report.human_s == pytest.approx(50 / 30, abs=0.1)  # fifty ticks of the operator's, none of a human's hands


@pytest.mark.parametrize(("says_at", "outcome"), [(80, Outcome.SUCCESS), (200, Outcome.TIMEOUT)])
def test_the_operator_has_a_while_after_the_last_step_to_say_what_came_of_it(says_at, outcome):
    class LateOperator(Unattended):
        num_polled = 0

        def verdict(self, plan: EpisodePlan, *, tick: int) -> Outcome | None:
            self.num_polled += 1
            return Outcome.SUCCESS if self.num_polled >= says_at else None

    run = rig(operator=LateOperator(), label_wait_s=2.0)
    played = run.play()
    assert (played.result.outcome, len(played.episode)) == (outcome, 60)
    assert played.episode.reward[-1] == (outcome is Outcome.SUCCESS)


def test_an_arm_that_cannot_come_to_its_start_pose_says_so():
    arm = FakeArm(lag=0.0)
    with pytest.raises(RobotError, match="sent to its start pose"):
        rig(arm=arm, limits={"start_pose": {"shoulder": 60.0}}).play()
