"""Whatever is killed, whenever: the next start ends in the same state, and no episode is lost or doubled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from opentau.cli.compose import compose_config
from opentau.data.lerobot_v3 import Dataset
from opentau.loop.options import LoopOptions
from opentau.loop.plans import planned_stages
from tests.loop.conftest import TINY
from tests.loop.driving import after_seconds, at_stage, finish, kill_when, stage_ids, start

pytestmark = pytest.mark.loop


def kill_at_random(runs: Path, *, times: int, seed: int, longest_s: float) -> int:
    """Start the run and kill it after a random time, again and again; return how often it was still alive to be killed."""
    rng, num_kills = np.random.default_rng(seed), 0
    for _ in range(times):
        num_kills += kill_when(start(runs, TINY), runs / "run", after_seconds(rng.uniform(0.0, longest_s)))
    return num_kills


def require_same_end(run: Path, undisturbed: Path) -> None:
    assert stage_ids(run) == stage_ids(undisturbed)
    for stage in sorted((undisturbed / "stages").glob("collect-*")) + sorted((undisturbed / "stages").glob("demonstrations-*")):
        recorded = [episode.episode_id for episode in Dataset(run / "stages" / stage.name).episodes]
        assert recorded == [episode.episode_id for episode in Dataset(stage).episodes]
        assert len(set(recorded)) == len(recorded)


@pytest.mark.timeout(600)
def test_a_run_killed_at_every_stage_boundary_and_at_random_moments_ends_like_an_undisturbed_one(
    tmp_path: Path, undisturbed: Path
) -> None:
    assert kill_at_random(tmp_path, times=3, seed=0, longest_s=15.0) == 3
    stages = planned_stages(LoopOptions.from_config(compose_config("loop", TINY)))
    killed = [kill_when(start(tmp_path, TINY), tmp_path / "run", at_stage(name)) for name in stages]
    assert all(killed), dict(zip(stages, killed, strict=True))
    finish(tmp_path, TINY)
    require_same_end(tmp_path / "run", undisturbed)


@pytest.mark.faults
@pytest.mark.timeout(1500)
def test_a_run_killed_at_twenty_random_moments_ends_like_an_undisturbed_one(tmp_path: Path, undisturbed: Path) -> None:
    assert kill_at_random(tmp_path, times=20, seed=1, longest_s=12.0) >= 10
    finish(tmp_path, TINY)
    require_same_end(tmp_path / "run", undisturbed)
