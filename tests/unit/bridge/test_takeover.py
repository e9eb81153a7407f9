"""Interventions: from the policy to a human and back, through pause and alignment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentau.errors import OptionError
from opentau.types import Phase
from robot_bridge.workcell.takeover import Takeover, TakeoverOptions

A, P, L, H, R = Phase.AUTONOMOUS, Phase.PAUSED, Phase.ALIGN, Phase.HUMAN, Phase.RESUME


def phases(script: list[dict], *, has_policy: bool = True, **options: object) -> list[Phase]:
    machine = Takeover(TakeoverOptions(**options), has_policy=has_policy)
    usual = {"is_held": False, "is_still": True, "gap": None, "has_plan": True}
    return [machine.step(**(usual | step)) for step in script]


HELD = {"is_held": True}


def test_a_takeover_pauses_until_the_robot_rests_aligns_and_gives_back_after_a_while():
    script = [{"has_plan": False}, {}, HELD | {"is_still": False}, HELD | {"is_still": False}, HELD | {"gap": 0.2}]
    script += [HELD | {"gap": 0.1}, HELD | {"gap": 0.01}, HELD | {"gap": 0.3}, {}, {}, {}, {"has_plan": False}, {}]
    assert phases(script, release_ticks=3) == [R, A, P, P, L, L, H, H, P, P, R, R, A]


def test_a_device_without_a_pose_needs_no_alignment():
    assert phases([{}, HELD | {"is_still": False}, HELD, HELD]) == [A, P, H, H]


def test_letting_go_while_aligning_pauses_and_grasping_again_needs_the_alignment_again():
    script = [{}, HELD, HELD | {"gap": 0.5}, {}, HELD | {"gap": 0.5}, HELD | {"gap": 0.0}]
    assert phases(script) == [A, P, L, P, L, H]


def test_a_short_slip_of_the_switch_does_not_give_the_robot_back():
    assert phases([{}, HELD, HELD, {}, {}, HELD], release_ticks=3) == [A, P, H, P, P, H]


def test_a_demonstration_has_no_policy_to_go_back_to():
    assert phases([{}, {}, HELD, {}, {}, {}, {}], has_policy=False, release_ticks=1) == [P, P, H, P, P, P, P]


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.none() | st.floats(0, 1), st.booleans()), max_size=60))
def test_a_human_moves_the_robot_only_with_the_switch_held_and_never_right_after_the_policy(script):
    machine, before = Takeover(TakeoverOptions(), has_policy=True), R
    for is_held, is_still, gap, has_plan in script:
        after = machine.step(is_held=is_held, is_still=is_still, gap=gap, has_plan=has_plan)
        assert is_held or after not in (H, L)
        assert not is_held or after not in (A, R)
        assert (before, after) not in {(A, H), (A, L), (A, R), (R, H), (R, L), (H, A), (H, L), (H, R), (P, A), (L, A), (L, R)}
        before = after


@pytest.mark.parametrize("options", [{"align_tolerance": 0.0}, {"align_speed": 2.0}, {"release_ticks": 0}])
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(OptionError, match="takeover"):
        TakeoverOptions(**options)
