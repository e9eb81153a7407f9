"""Simulators in virtual time and an arm behind an emulated servo bus in real time play in one run, in separate processes.

A scripted person sets the arm's scene up, labels, and takes the arm over with a device that plays a recorded motion.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from opentau.data.lerobot.dataset import Dataset
from opentau.events import EPISODE_FINISHED, EventReader
from opentau.types import Episode, Outcome, Phase, Source
from robot_bridge.robots.calibration import GRIPPER, JOINTS
from robot_bridge.security.keys import keys_dir, make_pair, save_pair
from robot_bridge.security.trust import Role, TrustList
from robot_bridge.workcell.limits import Limits, TickLimits
from robot_bridge.workcell.safety import Motion, limited
from robot_bridge.workcell.takeover import TakeoverOptions
from tests.loop.driving import opentau

pytestmark = [pytest.mark.dist, pytest.mark.timeout(400)]

TINY = (
    "experiment=twin", "run_id=r", "sft.num_updates=10", "sft.batch_size=8", "data.demonstrations=2", "collect.episodes=6",
    "evaluation.episodes=0", "value.fit.num_folds=2", "value.fit.num_updates=5", "+rollout.listen_in=[collect]",
)  # fmt: skip


def two_free_ports() -> int:
    """Return a port that is free together with the one after it."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + 1))
                return port


@contextlib.contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command in the background; Ctrl-C ends it."""
    command = [sys.executable, "-P", "-m", "opentau.cli.main", *words]
    process = subprocess.Popen(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


TAKEN_AT, MOTION_TICKS, JUMP_AT, JUMP_DEG = 45, 60, 30, 12.0
TAKEOVER = TakeoverOptions(moves_robot=True, align_speed=1.0)


def recorded_motion(start_pose: dict[str, float]) -> np.ndarray:
    """Return a hand's smooth way, float32 [60, 6]: it begins beside the start pose, and jumps once, which no limit allows."""
    start = np.array([start_pose[f"{joint}.pos"] for joint in JOINTS])
    rng = np.random.default_rng(5)
    ends = rng.uniform(4.0, 8.0, len(JOINTS)) * rng.choice([-1.0, 1.0], len(JOINTS))
    start[0] += 30.0
    ends[JOINTS.index(GRIPPER)] = 5.0
    share = (1.0 - np.cos(np.pi * np.arange(MOTION_TICKS) / MOTION_TICKS))[:, None] / 2
    motion = start + share * ends
    motion[JUMP_AT:, 0] += JUMP_DEG
    return motion.astype(np.float32)


def require_the_scripts_columns(episode: Episode, *, motion: np.ndarray, limits: TickLimits) -> None:
    """Compare an episode's frames, one by one, with what the script gave, the takeover says and the limits leave of it."""
    phases, executed = episode.robot["fsm_state"], episode.executed_action
    assert not np.isin(phases[:TAKEN_AT], [Phase.PAUSED, Phase.ALIGN, Phase.HUMAN]).any()
    stretch = phases[TAKEN_AT:].tolist()
    num_pausing = next(tick for tick, phase in enumerate(stretch) if phase != Phase.PAUSED)
    num_aligning = stretch.count(Phase.ALIGN)
    expected = [Phase.PAUSED] * num_pausing + [Phase.ALIGN] * num_aligning + [Phase.HUMAN] * len(motion)
    expected += [Phase.PAUSED] * (TAKEOVER.release_ticks - 1) + [Phase.RESUME]
    assert min(num_pausing, num_aligning) > 0
    assert stretch[: len(expected)] == expected
    assert not np.isin(stretch[len(expected) :], [Phase.PAUSED, Phase.ALIGN, Phase.HUMAN]).any()

    is_taken = np.isin(phases, [Phase.PAUSED, Phase.ALIGN, Phase.HUMAN])
    np.testing.assert_array_equal(episode.source, np.where(is_taken, Source.INTERVENTION, Source.AUTONOMOUS))
    is_asked = np.isfinite(episode.policy_action).all(axis=1)
    assert not is_asked[is_taken][1:].any(), "the policy's proposal is kept for the tick in which it was relieved, no other"
    assert is_asked[~is_taken].any()
    np.testing.assert_array_equal(episode.action, executed)

    rest = TAKEN_AT + num_pausing - 1
    given = [motion[0]] * num_aligning + list(motion)
    after, clips, sent = Motion.at_rest(executed[rest]), [], []
    for number, target in enumerate(given):
        speed = TAKEOVER.align_speed if number < num_aligning else 1.0
        after, clip = limited(limits, after, target.astype(np.float64), speed=speed)
        sent.append(after.position)
        clips.append(clip)
    acted = slice(rest + 1, rest + 1 + len(given))
    np.testing.assert_array_equal(executed[acted], np.stack(sent))
    np.testing.assert_array_equal(episode.robot["clip_mask"][acted], np.stack(clips))
    human, is_free = slice(acted.start + num_aligning, acted.stop), np.stack(clips)[num_aligning:] == 0
    np.testing.assert_allclose(executed[human][is_free], motion[is_free], atol=1e-3)
    assert is_free[:, 1:].mean() > 0.5, "most of the script is within the limits"
    assert not is_free[JUMP_AT, 0], "the jump is not"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the emulated servo bus needs Linux's pseudo-terminals")
def test_an_arm_behind_its_servo_bus_plays_beside_simulators_and_is_corrected_as_its_script_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENTAU_KEYS", str(tmp_path / "keys"))
    for name, role in (("server", Role.POLICY), ("arm", Role.ROBOT)):
        pair = make_pair(name)
        save_pair(pair, keys_dir())
        TrustList(keys_dir()).trust(name, pair.public, role)
    address, arm = f"127.0.0.1:{two_free_ports()}", tmp_path / "arm"
    with running("robot", "twin", str(arm)) as twin:
        assert "an emulated SO-101 is on" in twin.stdout.readline()
        motion = recorded_motion(yaml.safe_load((arm / "limits.yaml").read_text())["start_pose"])
        np.save(arm / "motion.npy", motion)
        device = ["teleop=recorded", f"teleop.args.motions=[{arm / 'motion.npy'}]", f"teleop.args.at_ticks=[{TAKEN_AT}]"]
        device += [f"takeover.moves_robot={TAKEOVER.moves_robot}", f"takeover.align_speed={TAKEOVER.align_speed}"]
        keys = ["--keys", "arm", "--server", "server"]
        with running("robot", "connect", str(arm / "robot.yaml"), "--to", address, *keys, *device):
            collected = opentau(tmp_path, "collect", *TINY, f"+rollout.listen={address}", "+rollout.keys=server")
    dataset = Dataset(Path(collected["path"]))
    played = [each for each in EventReader(tmp_path / "r").read_new() if each["kind"] == EPISODE_FINISHED]
    kept = {each["episode_id"]: each for each in played if each["stage"] == "collect-1"}  # the last try of each
    by_arm = {episode_id: each for episode_id, each in kept.items() if each["station"] == "arm"}
    assert by_arm, "the arm got nothing to play"
    assert len(by_arm) < len(kept) == len(dataset)
    stations = {each["station"] for each in kept.values()}
    assert len(stations) == 3, f"two simulators and the arm, not {stations}"
    limits = Limits.load(arm / "limits.yaml")
    within, num_corrected = TickLimits.of(limits, dataset.interface), 0
    for index in range(len(dataset)):
        episode = dataset.load(index)
        assert bool(episode.limits_id) == bool(episode.robot) == (episode.episode_id in by_arm)
        if episode.robot:
            report = by_arm[episode.episode_id]["playback"]
            assert report["timing"]["num_ticks"] >= len(episode)
            assert np.isfinite(episode.executed_action).all()
            assert np.ptp(episode.state[:, :5], axis=0).max() > 1.0, "the arm did not move"
            if episode.outcome is not Outcome.ABORTED:  # the machine may be too busy for real time
                slowed = within.scaled(limits.first_run_scale) if report["is_first_run"] else within
                require_the_scripts_columns(episode, motion=motion, limits=slowed)
                num_corrected += 1
    assert num_corrected > 0, "no episode of the arm came to its end"
