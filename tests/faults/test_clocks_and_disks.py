"""Clocks of one process an hour off, and a disk that is full: neither is felt in what is played and recorded."""

from __future__ import annotations

import subprocess

import pytest

from opentau.types import Outcome
from tests.faults.run import ARM
from tests.faults.scene import kill, num_held, until
from tests.faults.shifted import MONOTONIC, WALL

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]

HOUR_S = 3600
OWN_MOUNTS = ("unshare", "-Urm", "sh", "-c")
MOUNT = 'mount -t tmpfs -o size=4m none "$0"'
FILL = MOUNT + '; head -c 5000000 /dev/zero > "$0/ballast" 2>/dev/null; exec "$@"'
"""Mounts 4 MB where the spool is, for this process alone, fills them, and runs what follows."""


@pytest.mark.parametrize(
    ("whose", "kind", "seconds"),
    [("arm", WALL, HOUR_S), ("run", WALL, -HOUR_S), ("arm", MONOTONIC, HOUR_S), ("run", MONOTONIC, HOUR_S)],
)
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


def test_an_arm_whose_disk_is_full_says_so_and_delivers_what_it_played_when_the_run_is_back(make_scene, tmp_path):
    (tmp_path / "mount").mkdir()
    can_mount = subprocess.run([*OWN_MOUNTS, MOUNT, str(tmp_path / "mount")], check=False).returncode == 0
    scene = make_scene()
    (scene.folder / "spool").mkdir()
    run = scene.start_run()
    if can_mount:
        arm = scene.start_arm(before=(*OWN_MOUNTS, FILL, str(scene.folder / "spool")))
    else:  # some kernels let nobody mount: the spool's own limit is the disk then
        arm = scene.start_arm(spool_bytes=1_000)
    scene.let_play(20, arm=arm)
    kill(run)
    text = "No space left on device" if can_mount else "(spool_bytes)"
    until(lambda: "The episode is kept in memory" in scene.said(ARM), why="the disk is full")
    assert text in scene.said(ARM)
    scene.finish(scene.start_run(), arm)
    assert str(scene.episodes()[1]["outcome"]) == Outcome.TIMEOUT
