"""A human takes a robot over: the columns say who did what, frame by frame."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from opentau.errors import OptionError
from opentau.types import Actor, Outcome, Phase, Source
from robot_bridge.teleops.recorded import RecordedTeleop
from robot_bridge.workcell.takeover import TakeoverOptions
from tests.fakes import arm_interface
from tests.unit.bridge.rigs import PLAN, ScriptedTeleop, require_within_limits, rig


def test_a_human_takes_over_and_the_columns_say_exactly_who_did_what():
    """The switch is held in ticks 20 to 39; the leader is far away until tick 27 and lies on the arm from then on."""
    leader = {"arm": None}

    def pose(tick: int, _: np.ndarray) -> np.ndarray:
        away = 30.0 if tick < 27 else 0.0
        return leader["arm"].read().state + np.array([away, 0.0, 0.0], np.float32)

    teleop = ScriptedTeleop(held=range(20, 40), pose=pose, ends_at=(59, Outcome.SUCCESS))
    run = rig(teleop=teleop, takeover=TakeoverOptions(release_ticks=5), max_steps=1000)
    leader["arm"] = run.arm
    played = run.play()
    episode = played.episode
    phases = episode.robot["fsm_state"].tolist()
    pause = next(tick for tick in range(21, 27) if phases[tick] == Phase.ALIGN) - 20
    expected = [Phase.RESUME] * 3 + [Phase.AUTONOMOUS] * 17 + [Phase.PAUSED] * pause + [Phase.ALIGN] * (7 - pause)
    expected += [Phase.HUMAN] * 13 + [Phase.PAUSED] * 4 + [Phase.RESUME] * 3 + [Phase.AUTONOMOUS] * 13
    assert phases == expected
    is_human = np.isin(phases, [Phase.PAUSED, Phase.ALIGN, Phase.HUMAN])
    assert (episode.source == np.where(is_human, Source.INTERVENTION, Source.AUTONOMOUS)).all()
    assert played.result.num_intervention_steps == np.count_nonzero(is_human)
    asked = np.isfinite(episode.policy_action[:, 0])
    assert np.flatnonzero(asked).tolist() == [*range(3, 21), *range(47, 60)], "what the policy proposed as it was relieved"
    assert played.result.outcome is Outcome.SUCCESS
    assert episode.reward.tolist() == [0.0] * 59 + [1.0]
    human = np.flatnonzero(np.array(phases) == Phase.HUMAN)
    np.testing.assert_allclose(episode.executed_action[human[-1]], [10.0 + 0.25 * human[-1], -20.0, 50.0], atol=1e-3)
    fresh = [request.tick for request in run.link.requests if request.prefix is None]
    assert fresh == [0, 44], "planned afresh after the human"
    require_within_limits(run.arm.commands)


def test_the_robot_can_come_to_the_device_slowly():
    goal = np.array([40.0, -20.0, 50.0], np.float32)
    teleop = ScriptedTeleop(held=range(20, 400), pose=lambda *_: goal)
    run = rig(teleop=teleop, takeover=TakeoverOptions(moves_robot=True), max_steps=200)
    episode = run.play().episode
    aligning = episode.robot["fsm_state"] == Phase.ALIGN
    assert aligning.any()
    steps = np.abs(np.diff(episode.executed_action[aligning], axis=0))
    assert steps.max() <= 0.75 + 1e-4, "a quarter of the velocity limit"
    assert episode.robot["fsm_state"][-1] == Phase.HUMAN


def test_a_demonstration_is_the_humans_from_the_first_tick_to_the_last():
    plan = dataclasses.replace(PLAN, actor=Actor.EXPERT, policy_id="")
    run = rig(teleop=ScriptedTeleop(held=range(5, 30), ends_at=(40, Outcome.FAILURE)))
    played = run.play(plan)
    assert played.result.outcome is Outcome.FAILURE
    assert set(played.episode.source) == {Source.DEMONSTRATION}
    assert run.link.requests == []
    assert np.isnan(played.episode.policy_action).all()
    assert played.episode.robot["fsm_state"].tolist() == [Phase.PAUSED] * 5 + [Phase.HUMAN] * 25 + [Phase.PAUSED] * 11
    with pytest.raises(OptionError, match="set `teleop`"):
        rig().play(plan)


def test_whoever_demonstrates_can_have_the_robot_throughout_without_a_switch_and_without_a_policy():
    plan = dataclasses.replace(PLAN, actor=Actor.EXPERT, policy_id="")
    goal = np.array([30.0, -20.0, 50.0], np.float32)
    run = rig(
        teleop=ScriptedTeleop(pose=lambda *_: goal, ends_at=(80, Outcome.SUCCESS)),
        takeover=TakeoverOptions(demonstrator_holds=True, moves_robot=True, align_speed=0.3),
        max_steps=1000,
        has_link=False,
    )
    episode = run.play(plan).episode
    phases = episode.robot["fsm_state"].tolist()
    num_aligning = phases.count(Phase.ALIGN)
    assert num_aligning > 10, "the robot comes to the device first"
    assert phases == [Phase.ALIGN] * num_aligning + [Phase.HUMAN] * (len(phases) - num_aligning)
    assert np.abs(np.diff(episode.executed_action[:num_aligning], axis=0)).max() <= 0.3 * 3.0 + 1e-4
    np.testing.assert_array_equal(episode.is_held, np.arange(len(phases)) < num_aligning)
    with pytest.raises(OptionError, match="no link"):
        run.play(PLAN)
    policys = rig(teleop=ScriptedTeleop(), takeover=TakeoverOptions(demonstrator_holds=True)).play()
    assert Phase.HUMAN not in policys.episode.robot["fsm_state"], "a policy's episode needs the switch"


def test_a_device_with_a_script_is_told_which_episode_begins_and_plays_in_each(tmp_path):
    motion = np.linspace([40.0, -20.0, 50.0], [43.0, -22.0, 55.0], 20).astype(np.float32)
    np.save(tmp_path / "m.npy", motion)
    teleop = RecordedTeleop(interface=arm_interface(), motions=[str(tmp_path / "m.npy")], at_ticks=[20])
    run = rig(teleop=teleop, takeover=TakeoverOptions(moves_robot=True), max_steps=200)
    for number in range(2):
        episode = run.play(dataclasses.replace(PLAN, episode_id=f"e/{number}")).episode
        human = np.flatnonzero(episode.robot["fsm_state"] == Phase.HUMAN)
        assert len(human) == len(motion)
        assert episode.robot["fsm_state"][20] == Phase.PAUSED
        np.testing.assert_allclose(episode.executed_action[human[-1]], motion[-1], atol=1e-3)


def test_a_discarded_episode_is_aborted():
    played = rig(teleop=ScriptedTeleop(ends_at=(10, Outcome.ABORTED))).play()
    assert (played.result.outcome, played.result.message) == (Outcome.ABORTED, "discarded")
