"""When the expert takes over and hands back."""

from __future__ import annotations

import numpy as np
import pytest

from opentau.errors import OptionError
from opentau.types import Actor, EpisodePlan
from robot_bridge.supervisors import EpisodeSupervisor

NOTHING = {
    "max_steps": 200,
    "no_progress_ticks": None,
    "overtime_fraction": None,
    "value_drop": None,
    "random_takeover_probability": 0.0,
    "keep_probability": 0.0,
    "hand_back_after_ticks": (10, 20),
}


def plan(seed: int = 0) -> EpisodePlan:
    return EpisodePlan(index=0, episode_id="e", task_id="t", seed=seed, actor=Actor.POLICY, is_supervised=True)


def takeovers(*, seed: int = 0, positions=None, values=None, **options) -> np.ndarray:
    """Return which ticks the expert acts in; by default the state moves steadily and no value is given."""
    supervisor = EpisodeSupervisor(**(NOTHING | options))
    supervisor.start(plan(seed))
    has_control, ticks = False, []
    for tick in range(200):
        position = 0.01 * tick if positions is None else positions[tick]
        value = None if values is None else values[tick]
        state = np.array([position, 0.0, 0.0, tick, tick], np.float32)
        has_control = supervisor.wants_control(tick=tick, state=state, value=value, is_intervening=has_control)
        ticks.append(has_control)
    return np.flatnonzero(ticks)


def test_without_a_reason_nobody_takes_over():
    assert len(takeovers()) == 0


def test_standing_still_is_noticed_and_control_handed_back():
    positions = np.minimum(0.01 * np.arange(200), 0.5)
    acting = takeovers(positions=positions, no_progress_ticks=30, max_takeovers=1)
    assert acting[0] == 78
    assert 10 <= len(acting) <= 20
    assert (np.diff(acting) == 1).all()


def test_after_a_stretch_standing_still_has_to_last_as_long_again():
    acting = takeovers(positions=np.zeros(200), no_progress_ticks=30, max_takeovers=2)
    (gap,) = np.diff(acting)[np.diff(acting) > 1]
    assert gap > 30


def test_running_late_is_noticed_once_it_is_late():
    acting = takeovers(overtime_fraction=0.5, max_takeovers=3)
    assert acting[0] == 100
    gaps = np.diff(acting)[np.diff(acting) > 1]
    assert (gaps >= 20).all()


def test_a_drop_of_the_value_is_measured_from_the_best_so_far():
    values = np.r_[np.linspace(-0.8, -0.3, 50), np.linspace(-0.3, -0.9, 150)]
    acting = takeovers(values=values, value_drop=0.25)
    assert values[acting[0]] < -0.55 <= values[acting[0] - 1]


def test_chance_takes_over_in_its_share_of_episodes_and_in_the_middle_of_them():
    first = [acting[0] for seed in range(300) if len(acting := takeovers(seed=seed, random_takeover_probability=0.4))]
    assert 90 <= len(first) <= 150
    assert min(first) >= 20
    assert max(first) < 120


def test_control_can_be_kept_to_the_end():
    acting = takeovers(overtime_fraction=0.5, keep_probability=1.0)
    assert acting.tolist() == list(range(100, 200))


def test_the_same_plan_gives_the_same_takeovers():
    options = {"random_takeover_probability": 1.0, "overtime_fraction": 0.6, "keep_probability": 0.5}
    np.testing.assert_array_equal(takeovers(seed=4, **options), takeovers(seed=4, **options))
    assert not np.array_equal(takeovers(seed=4, **options), takeovers(seed=5, **options))


@pytest.mark.parametrize("wrong", [{"keep_probability": 1.5}, {"hand_back_after_ticks": (20, 10)}])
def test_impossible_options_are_refused(wrong):
    with pytest.raises(OptionError):
        EpisodeSupervisor(**(NOTHING | wrong))
