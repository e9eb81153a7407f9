"""Stations that nobody here started: they dial in, play what there is to play, and strangers among them change nothing."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from opentau.errors import OptionError
from opentau.events import NOTE, EventLog, EventReader
from opentau.rollout.session import RolloutSession
from opentau.types import Outcome
from robot_bridge.playing.chunking import ChunkingOptions
from tests.fakes import ScriptedPolicy, counting_env
from tests.unit.rollout.sessions import options, plan


def start(session: RolloutSession, folder: Path, name: str, **changes: object) -> subprocess.Popen[bytes]:
    file = folder / f"{name}.yaml"
    dataclasses.replace(session.station_config(name), **changes).save(file)
    with open(folder / f"{name}.log", "wb") as log:
        return subprocess.Popen([sys.executable, "-P", "-m", "robot_bridge.station", str(file)], stdout=log, stderr=log)


def test_they_play_what_our_own_stations_would(tmp_path):
    plans = [plan(0), plan(1, task_id="counting/1"), plan(2, is_supervised=True)]
    with RolloutSession(options(num_stations=1), policies={"p": ScriptedPolicy()}) as session:
        here = session.run(plans)
    with (
        EventLog(tmp_path, "main") as log,
        RolloutSession(options(num_stations=0), policies={"p": ScriptedPolicy()}, events=log) as session,
    ):
        strange = counting_env(action_names=["dx", "dy", "dz"])
        stranger = start(session, tmp_path, "stranger", env=strange)
        played: list = []
        thread = threading.Thread(target=lambda: played.extend(session.run(plans)))
        thread.start()
        assert stranger.wait(60) == 1
        station = start(session, tmp_path, "guest")
        thread.join(60)
    assert station.wait(60) == 0
    assert played == here
    assert "action_names: policy expects ['dx', 'dy']" in (tmp_path / "stranger.log").read_text()
    refusals = [event["text"] for event in EventReader(tmp_path).read_new() if event["kind"] == NOTE]
    assert len(refusals) == 1
    assert "stranger" in refusals[0]


def test_one_that_sends_jpegs_asks_for_the_time_and_spools_plays_the_same(tmp_path):
    plans = [plan(0), plan(1, is_recorded=False)]
    with RolloutSession(options(num_stations=1), policies={"p": ScriptedPolicy()}) as session:
        here = session.run(plans)
    with RolloutSession(options(num_stations=0), policies={"p": ScriptedPolicy()}) as session:
        spool = tmp_path / "spool"
        station = start(session, tmp_path, "guest", image_encoding="jpeg", clock_interval_s=0.0, spool=str(spool))
        assert session.run(plans) == here
    assert station.wait(60) == 0, (tmp_path / "guest.log").read_text()
    assert list(spool.iterdir()) == []


class ShortMemory(ScriptedPolicy):
    """Continues one committed action at most."""

    max_committed = 1


def test_what_a_policy_cannot_continue_ends_the_episode_that_asked_for_it_and_no_other(tmp_path):
    plans = [plan(0), plan(1, policy_id="q")]
    policies = {"p": ShortMemory(), "q": ScriptedPolicy()}
    with RolloutSession(options(num_stations=0, delay_ticks=2), policies=policies) as session:
        station = start(session, tmp_path, "guest")
        refused, played = session.run(plans)
    assert station.wait(60) == 0
    assert refused.outcome is Outcome.ERROR
    assert "commits 2 actions; the policy continues at most 1" in refused.message
    assert played.outcome is not Outcome.ERROR


def test_stations_of_our_own_that_would_ask_for_it_are_not_even_started():
    policies = {"p": ShortMemory()}
    with pytest.raises(OptionError, match="policy 'p' continues at most 1 committed actions; delay_ticks is 2"):
        RolloutSession(options(num_stations=1, delay_ticks=2), policies=policies)
    RolloutSession(options(num_stations=1, delay_ticks=2, chunking=ChunkingOptions(mode="blend")), policies=policies)


def test_fewer_than_none_is_an_error():
    with pytest.raises(OptionError, match="num_stations is -1"):
        options(num_stations=-1)
