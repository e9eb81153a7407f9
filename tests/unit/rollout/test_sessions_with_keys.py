"""A session with keys: its own stations and trusted ones play as ever, everybody else stays outside."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import zmq

from opentau.errors import KeyFileError, LinkError
from opentau.events import AUDIT, NOTE, EventLog, EventReader
from opentau.rollout.session import RolloutSession
from robot_bridge.security.keys import make_pair, save_pair
from robot_bridge.security.trust import TrustList
from robot_bridge.wire.link import INSECURE, Plane, dial, send
from robot_bridge.wire.messages import Heartbeat
from tests.fakes import ScriptedPolicy
from tests.unit.rollout.sessions import options, plan


@pytest.fixture
def keys(tmp_path, monkeypatch):
    folder = tmp_path / "keys"
    monkeypatch.setenv("OPENTAU_KEYS", str(folder))
    save_pair(make_pair("server"), folder)
    return folder


def test_keys_change_who_gets_in_and_nothing_else(keys, tmp_path):
    plans = [plan(0), plan(1, task_id="counting/1"), plan(2, is_supervised=True)]
    with RolloutSession(options(num_stations=1), policies={"p": ScriptedPolicy()}) as session:
        without = session.run(plans)
    with (
        EventLog(tmp_path, "main") as log,
        RolloutSession(options(num_stations=1, keys="server"), policies={"p": ScriptedPolicy()}, events=log) as session,
        zmq.Context() as context,
    ):
        intruder = dial(context, Plane.CONTROL, endpoint=session.station_config("x").control_endpoint, identity="station-0-1")
        send(intruder, Plane.CONTROL, Heartbeat(session=session.station_config("x").session))
        assert session.run(plans) == without
        own_key = session.station_config("x").secret_file
        intruder.close(0)
    audits = [event for event in EventReader(tmp_path).read_new() if event["kind"] == AUDIT]
    assert audits
    assert {event["what"] for event in audits} == {"handshake"}
    assert own_key
    assert not Path(own_key).exists()


def test_a_robot_with_a_trusted_key_plays_and_a_stranger_s_does_not(keys, tmp_path):
    arm, stranger = make_pair("arm"), make_pair("stranger")
    for pair in (arm, stranger):
        save_pair(pair, tmp_path / "elsewhere")
    TrustList(keys).trust("arm", arm.public, "robot")
    stations = {}
    with (
        EventLog(tmp_path, "main") as log,
        RolloutSession(options(num_stations=0, keys="server"), policies={"p": ScriptedPolicy()}, events=log) as session,
    ):
        played: list = []
        thread = threading.Thread(target=lambda: played.extend(session.run([plan(0)])))
        thread.start()
        for name in ("stranger", "arm"):
            secret_file = f"{name}.secret.yaml"  # in the folder of keys of its own machine
            config = dataclasses.replace(session.station_config(name), secret_file=secret_file, answer_timeout_s=3.0)
            config.save(tmp_path / f"{name}.yaml")
            command = [sys.executable, "-P", "-m", "robot_bridge.station", str(tmp_path / f"{name}.yaml")]
            own_keys = os.environ | {"OPENTAU_KEYS": str(tmp_path / "elsewhere")}
            stations[name] = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=own_keys)
            if name == "stranger":
                assert stations[name].wait(30) == 1
        thread.join(30)
    assert stations["arm"].wait(30) == 0
    assert len(played) == 1
    audits = [event for event in EventReader(tmp_path).read_new() if event["kind"] == AUDIT]
    assert stranger.public in audits[0]["who"]


def test_a_network_needs_keys_or_the_sentence_which_is_announced(tmp_path, keys):
    with pytest.raises(LinkError, match="without keys"), RolloutSession(options(host="0.0.0.0"), policies={}):
        pass
    with pytest.raises(KeyFileError, match="there is no key"), RolloutSession(options(keys="other"), policies={}):
        pass
    for number in range(2):
        # The name of the loopback interface: no address, so that it needs the sentence, and yet nobody else can come.
        said = options(host="lo", insecure=INSECURE)
        with EventLog(tmp_path, "main") as log, RolloutSession(said, policies={}, events=log):
            pass
        notes = [event for event in EventReader(tmp_path).read_new() if event["kind"] == NOTE]
        assert [event["level"] for event in notes] == ["warning"] * (number + 1)


def test_a_door_that_cannot_open_closes_at_once(keys):
    started = time.monotonic()
    elsewhere = options(keys="server", host="203.0.113.1")
    with pytest.raises(LinkError, match="cannot listen"), RolloutSession(elsewhere, policies={}):
        pass
    assert time.monotonic() - started < 5.0
