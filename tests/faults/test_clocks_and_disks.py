"""Clocks of one process an hour off, and disks that are full: neither is felt in what is played and recorded."""

from __future__ import annotations

import pytest

from opentau.types import Outcome
from tests.faults.scene import num_held
from tests.faults.shifted import MONOTONIC, WALL

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]

HOUR_S = 3600


@pytest.mark.parametrize("whose", ["arm", "run"])
@pytest.mark.parametrize(("kind", "seconds"), [(WALL, HOUR_S), (WALL, -HOUR_S), (MONOTONIC, HOUR_S)])
def test_a_clock_an_hour_off_in_one_process_has_no_effect(make_scene, whose, kind, seconds):
    scene = make_scene(num_episodes=1)
    jump = scene.folder / "jump"
    wrapper = ("tests.faults.shifted", kind, str(seconds), str(jump))
    run = scene.start_run(*(wrapper if whose == "run" else ()))
    arm = scene.start_arm(*(wrapper if whose == "arm" else ()), clock_interval_s=0.1, answer_within_ms=60_000.0)
    scene.let_play(20, arm=arm)
    jump.touch()
    scene.finish(run, arm)
    [episode] = scene.episodes()
    assert str(episode["outcome"]) == Outcome.TIMEOUT
    assert num_held(episode) < scene.num_ticks
