"""Action bursts: bounded, seeded, and never on the gripper."""

from __future__ import annotations

import numpy as np
import pytest

from envs.perturbations import ActionBursts

ACTION = np.array([0.2, -0.9, 0.0, 0.0, 0.0, 0.1, -1.0], np.float32)


def executed(bursts: ActionBursts, *, seed: int, num_ticks: int = 200) -> np.ndarray:
    bursts.start(seed=seed)
    return np.array([bursts.apply(ACTION) for _ in range(num_ticks)])


def test_a_seed_decides_the_bursts() -> None:
    bursts = ActionBursts(episode_share=1.0)
    first = executed(bursts, seed=1)
    assert np.array_equal(first, executed(bursts, seed=1))
    assert not np.array_equal(first, executed(bursts, seed=2))


def test_bursts_are_short_bounded_and_spare_the_gripper() -> None:
    actions = executed(ActionBursts(episode_share=1.0, probability=0.05, num_ticks=(3, 8)), seed=0, num_ticks=2000)
    assert (np.abs(actions) <= 1.0).all()
    assert (actions[:, 6] == -1.0).all()
    is_quiet = np.isclose(actions, ACTION).all(axis=1)
    assert 0.5 < is_quiet.mean() < 0.95
    changes = np.flatnonzero(np.diff(np.concatenate([[0], ~is_quiet, [0]])))
    lengths = changes[1::2] - changes[::2]
    assert lengths.min() >= 3
    assert np.median(lengths) < 8


def test_the_share_of_disturbed_episodes_is_as_asked() -> None:
    bursts = ActionBursts(episode_share=0.3, probability=0.2)
    disturbed = [not np.allclose(executed(bursts, seed=seed, num_ticks=60), ACTION) for seed in range(200)]
    assert 0.2 < np.mean(disturbed) < 0.4


def test_the_commanded_action_is_left_as_it_was() -> None:
    command = ACTION.copy()
    bursts = ActionBursts(episode_share=1.0, probability=1.0)
    bursts.start(seed=0)
    assert not np.array_equal(bursts.apply(command), command)
    assert np.array_equal(command, ACTION)


@pytest.mark.parametrize("options", [{"probability": 1.5}, {"episode_share": -0.1}, {"num_ticks": (5, 5)}])
def test_impossible_options_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="is"):
        ActionBursts(**options)
