"""Simulators in virtual time and an arm behind an emulated servo bus in real time play in one run, in separate processes."""

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

from opentau.data.lerobot.dataset import Dataset
from opentau.events import EPISODE_FINISHED, EventReader
from robot_bridge.security.keys import keys_dir, make_pair, save_pair
from robot_bridge.security.trust import Role, TrustList
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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the emulated servo bus needs Linux's pseudo-terminals")
def test_an_arm_behind_its_servo_bus_plays_beside_simulators_by_its_key(
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
        with running("robot", "connect", str(arm / "robot.yaml"), "--to", address, "--keys", "arm", "--server", "server"):
            collected = opentau(tmp_path, "collect", *TINY, f"+rollout.listen={address}", "+rollout.keys=server")
    dataset = Dataset(Path(collected["path"]))
    played = [each for each in EventReader(tmp_path / "r").read_new() if each["kind"] == EPISODE_FINISHED]
    kept = {each["episode_id"]: each for each in played if each["stage"] == "collect-1"}  # the last try of each
    by_arm = {episode_id: each for episode_id, each in kept.items() if each["station"] == "arm"}
    assert by_arm, "the arm got nothing to play"
    assert len(by_arm) < len(kept) == len(dataset)
    for index in range(len(dataset)):
        episode = dataset.load(index)
        assert bool(episode.limits_id) == bool(episode.robot) == (episode.episode_id in by_arm)
        if episode.robot:
            timing = by_arm[episode.episode_id]["playback"]["timing"]
            assert timing["num_ticks"] >= len(episode)
            assert np.isfinite(episode.executed_action).all()
            assert np.ptp(episode.state[:, :5], axis=0).max() > 1.0, "the arm did not move"
