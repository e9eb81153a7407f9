"""Episodes in memory for the tests of value and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from opentau.data.frames import FrameTable
from opentau.types import Episode, Outcome, Source
from opentau.value.table import ValueTable

MAX_STEPS = 100


@dataclass(frozen=True, kw_only=True)
class Sketch:
    """What an episode of a test is about."""

    length: int
    is_success: bool
    source: Source = Source.AUTONOMOUS
    interventions: tuple[tuple[int, int], ...] = ()
    """Ticks [start, stop) in which the expert acted."""
    task_id: str = "box/0"
    state: np.ndarray | None = None
    """float32 [T, S]."""


def episode_of(sketch: Sketch, *, number: int) -> Episode:
    length = sketch.length
    source = np.full(length, sketch.source, np.int8)
    for start, stop in sketch.interventions:
        source[start:stop] = Source.INTERVENTION
    action = np.zeros((length, 2), np.float32)
    return Episode(
        images={},
        state=np.zeros((length, 3), np.float32) if sketch.state is None else sketch.state.astype(np.float32),
        action=action,
        policy_action=action,
        executed_action=action,
        source=source,
        reward=np.zeros(length, np.float32),
        value=np.full(length, np.nan, np.float32),
        sim_state=np.zeros((length, 0)),
        prompt=f"do {sketch.task_id}",
        task_id=sketch.task_id,
        outcome=Outcome.SUCCESS if sketch.is_success else Outcome.TIMEOUT,
        seed=number,
        episode_id=f"collect-1/{number:06d}",
        env_id="test",
        policy_version="test",
    )


def value_table(sketches: Sequence[Sketch], *, max_steps: int = MAX_STEPS) -> ValueTable:
    episodes = [episode_of(sketch, number=number) for number, sketch in enumerate(sketches)]
    table = FrameTable.from_episodes(episodes, dataset_id="collected")
    return ValueTable(table=table, max_steps={task: max_steps for task in table.task_ids})


@pytest.fixture(scope="session")
def sketch():
    return Sketch


@pytest.fixture(scope="session")
def make_table():
    return value_table


@dataclass(frozen=True, kw_only=True)
class World:
    """Simulated attempts at a task, as a critic sees them."""

    frames: ValueTable
    inputs: dict[str, np.ndarray]


def simulate(num_episodes: int, *, seed: int, identity_scale: float = 0.0, mark_scale: float = 1.0) -> World:
    """Attempts that make progress and may slip: a slipped one is stuck from then on, half of the slips are noticed and undone.

    Features are a random mix of progress and slip with noise; `identity_scale` adds a vector of the episode's own, by which
    a critic can recognise it.
    """
    rng = np.random.default_rng(seed)
    mix, sketches, features = rng.normal(size=(2, 24)), [], []
    for _ in range(num_episodes):
        pace, slips_at, is_stuck = rng.uniform(1.2, 2.5), rng.uniform(0.2, 0.8), rng.random() < 0.45
        recovers_after = rng.integers(5, 20)
        progress, slipped_for, latents = 0.0, 0, []
        while progress < 1 and len(latents) < MAX_STEPS:
            is_slipped = progress >= slips_at and (is_stuck or slipped_for < recovers_after)
            slipped_for += is_slipped
            latents.append((progress, float(is_slipped)))
            progress += 0.0 if is_slipped else pace / MAX_STEPS
        latent = np.array(latents) * (1.0, mark_scale)
        identity = rng.normal(size=(1, 24)) * identity_scale
        features.append(latent @ mix + rng.normal(scale=0.1, size=(len(latent), 24)) + identity)
        sketches.append(Sketch(length=len(latent), is_success=progress >= 1))
    frames = value_table(sketches)
    prefix = np.concatenate(features).astype(np.float32)
    prompt = np.zeros(len(prefix), np.int64)
    return World(frames=frames, inputs={"prefix": prefix, "state": frames.table.state, "prompt": prompt})


@pytest.fixture(scope="session")
def make_world():
    return simulate
