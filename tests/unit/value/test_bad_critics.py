"""Critics of rubbish are fitted as any other, and stopped: of exchanged outcomes, of nothing to see, of broken recordings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opentau.errors import CriticError
from opentau.training.critic import CriticFit
from opentau.value.checks import measure_critic, require_usable
from opentau.value.critic import CriticConfig
from opentau.value.features import InputSizes
from opentau.value.options import CriticOptions, FitOptions, ValueOptions

OPTIONS = ValueOptions(critic=CriticOptions(hidden_dim=128), fit=FitOptions(num_updates=60, batch_size=128, learning_rate=6e-3))
CONFIG = CriticConfig(
    options=OPTIONS.critic,
    sizes=InputSizes(prefix_dim=24, state_dim=3, num_prompts=1),
    prompts=("do box/0",),
    policy_version="policy",
)
NUM_EPISODES = 240
FRAMES_LEFT = 5
KNOWS_NOTHING = ("hardly tells successes from failures", "ranks failures above successes", "worse than one number")


def with_exchanged_outcomes(world: Any, *, seed: int) -> Any:
    """Every episode ended as another one did."""
    episodes = world.frames.episodes
    order = np.random.default_rng(seed).permutation(len(episodes))
    ended = tuple(replace(own, outcome=episodes[other].outcome) for own, other in zip(episodes, order, strict=True))
    return replace(world, frames=replace(world.frames, table=replace(world.frames.table, episodes=ended)))


def with_nothing_to_see(world: Any, *, seed: int) -> Any:
    """All frames look alike."""
    return replace(world, inputs={name: np.zeros_like(column) for name, column in world.inputs.items()})


@pytest.fixture
def broken_off(make_table, sketch) -> Callable[..., Any]:
    """Return what leaves the first frames of every episode, in which nothing has been decided."""

    def cut(world: Any, *, seed: int) -> Any:
        episodes = world.frames.episodes
        rows = np.concatenate([record.start + np.arange(FRAMES_LEFT) for record in episodes])
        frames = make_table([sketch(length=FRAMES_LEFT, is_success=record.is_success) for record in episodes])
        return replace(world, frames=frames, inputs={name: column[rows] for name, column in world.inputs.items()})

    return cut


def stopped_by(world: Any, work_dir: Path, *, seed: int) -> str:
    """Fit critics out of fold as a value stage does, and return what its check says; '' where it lets them pass."""
    fit = CriticFit(frames=world.frames, inputs=world.inputs, config=CONFIG, options=OPTIONS, seed=seed, work_dir=work_dir)
    values = fit.out_of_fold(num_fits=OPTIONS.fit.num_folds)
    try:
        require_usable(measure_critic(values, frames=world.frames, takeover="fail", folds=fit.folds))
    except CriticError as error:
        return str(error)
    return ""


def test_critics_of_exchanged_outcomes_are_stopped(make_world, tmp_path) -> None:
    worlds = [with_exchanged_outcomes(make_world(NUM_EPISODES, seed=seed), seed=seed) for seed in range(3)]
    said = [stopped_by(world, tmp_path / str(seed), seed=seed) for seed, world in enumerate(worlds)]
    assert all(any(words in text for words in KNOWS_NOTHING) for text in said), said


def test_critics_of_recordings_that_broke_off_are_stopped(make_world, tmp_path, broken_off) -> None:
    worlds = [broken_off(make_world(NUM_EPISODES, seed=seed), seed=seed) for seed in range(3)]
    said = [stopped_by(world, tmp_path / str(seed), seed=seed) for seed, world in enumerate(worlds)]
    assert all(any(words in text for words in KNOWS_NOTHING) for text in said), said


def test_a_critic_that_sees_nothing_is_stopped_although_its_folds_differ(make_world, tmp_path) -> None:
    world = with_nothing_to_see(make_world(NUM_EPISODES // 8, seed=0), seed=0)
    assert "nearly the same of every frame" in stopped_by(world, tmp_path, seed=0)


@pytest.mark.parametrize("num_episodes", [NUM_EPISODES, NUM_EPISODES // 8])
def test_a_critic_of_the_same_episodes_as_they_were_passes(make_world, tmp_path, num_episodes: int) -> None:
    assert stopped_by(make_world(num_episodes, seed=1), tmp_path, seed=1) == ""
