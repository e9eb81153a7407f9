"""Whatever is killed, whenever: the next start ends in the same state, and no episode is lost or doubled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from opentau.cli.compose import compose_config
from opentau.data.lerobot.dataset import Dataset
from opentau.loop.options import LoopOptions
from opentau.loop.plans import planned_stages
from tests.loop.conftest import TINY
from tests.loop.driving import after_seconds, at_stage, finish, kill_when, stage_ids, start

pytestmark = pytest.mark.loop


def kill_at_random(folder: Path, *, times: int, seed: int, longest_s: float) -> list[Path]:
    """Start a run and kill it after a random time, again and again until it has been killed `times`; return all runs.

    A run that comes to its end meanwhile, as it does the sooner the faster the machine is, is followed by another one.
    """
    rng, runs, num_kills = np.random.default_rng(seed), [folder / "runs-0"], 0
    while num_kills < times:
        process = start(runs[-1], TINY)
        if kill_when(process, runs[-1] / "run", after_seconds(rng.uniform(0.0, longest_s))):
            num_kills += 1
        else:
            assert process.returncode == 0, (runs[-1] / "output.txt").read_text()[-4000:]
            runs.append(folder / f"runs-{len(runs)}")
    return runs


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
    [runs] = kill_at_random(tmp_path, times=3, seed=0, longest_s=5.0)
    stages = planned_stages(LoopOptions.from_config(compose_config("loop", TINY)))
    killed = [kill_when(start(runs, TINY), runs / "run", at_stage(name)) for name in stages]
    assert all(killed), dict(zip(stages, killed, strict=True))
    finish(runs, TINY)
    require_same_end(runs / "run", undisturbed)


@pytest.mark.faults
@pytest.mark.timeout(1500)
def test_a_run_killed_at_twenty_random_moments_ends_like_an_undisturbed_one(tmp_path: Path, undisturbed: Path) -> None:
    for runs in kill_at_random(tmp_path, times=20, seed=1, longest_s=8.0):
        finish(runs, TINY)
        require_same_end(runs / "run", undisturbed)
