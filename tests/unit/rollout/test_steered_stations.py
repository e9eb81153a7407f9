"""A human elsewhere takes a simulator's episode in hand: recorded exactly, handed back by rule, never in a score."""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opentau.cli.main import main
from opentau.control import CLEAR, JOG, STOP_ROBOT, TAKE_OVER, LocalRunClient, RunClient
from opentau.errors import LeaseError
from opentau.events import EPISODE_FINISHED, LEASE, TAKEOVER, EventLog, EventReader
from opentau.lease import Lease
from opentau.runfold import fold
from opentau.types import Actor, Outcome, Source
from robot_bridge.security.keys import ClientCredentials, make_pair
from robot_bridge.security.trust import TrustList
from robot_bridge.viewing.client import RemoteRunClient
from robot_bridge.viewing.desk import viewing
from tests.unit.rollout.steered import Scripted, hand_back, plan, play, play_expert

pytestmark = pytest.mark.timeout(300)


Opened = tuple[Callable[[], RunClient], dict[str, Any], str]
"""How a client is made once the run listens, what the run is opened with, and under which name the client steers."""


@pytest.fixture(params=["here", "elsewhere"])
def opened(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """A client of this machine, and one that comes over the network with its key."""
    if request.param == "here":
        return lambda: LocalRunClient(tmp_path / "run", operator="anna"), {}, "anna"
    monkeypatch.setenv("OPENTAU_KEYS", str(tmp_path / "keys"))
    server, laptop, endpoints, has_left = make_pair("server"), make_pair("laptop"), queue.SimpleQueue[str](), threading.Event()
    TrustList(tmp_path / "keys").trust("laptop", laptop.public, "operator")

    @contextmanager
    def listen(run_dir: Path, *, log: EventLog) -> Iterator[None]:
        with viewing(run_dir, host="127.0.0.1", port=0, log=log, pair=server) as endpoint:
            endpoints.put(endpoint)
            yield
            assert has_left.wait(120), "the run goes on listening until the client knows how its last jog ended"

    def connect() -> RunClient:
        credentials = ClientCredentials(pair=laptop, server_public=server.public)
        return RemoteRunClient(endpoints.get(timeout=120), credentials=credentials, answer_s=60)

    return connect, {"listen": listen, "has_left": has_left}, "laptop"


def test_who_plays_the_expert_by_jogs_succeeds_and_the_recording_has_exactly_that(opened: Opened, tmp_path: Path) -> None:
    connect, options, operator = opened
    has_left = options.pop("has_left", threading.Event())

    def steer() -> tuple[int, list[np.ndarray], bool]:
        try:
            return play_expert(Scripted(connect()), seed=plan().seed)
        finally:
            has_left.set()

    with ThreadPoolExecutor(1) as pool:
        playing = pool.submit(steer)
        arrived = play(tmp_path / "run", [plan()], **options)
        first, actions, is_success = playing.result()
    result, episode = arrived["collect-1/000000"]
    assert is_success
    assert episode is not None
    assert (result.outcome, result.num_intervention_steps) == (Outcome.SUCCESS, len(actions))
    source = [Source.AUTONOMOUS] * first + [Source.INTERVENTION] * len(actions)
    np.testing.assert_array_equal(episode.source, source)
    np.testing.assert_array_equal(episode.executed_action[first:], actions)
    np.testing.assert_array_equal(episode.action, episode.executed_action)
    assert not episode.executed_action[:first].any()
    assert np.isnan(episode.policy_action[first + 1 :]).all()
    events = EventReader(tmp_path / "run").read_new()
    takeovers = [(event["state"], event["operator"], event["tick"]) for event in events if event["kind"] == TAKEOVER]
    assert takeovers == [("began", operator, first), ("ended", operator, first + len(actions) - 1)]
    shown = tmp_path / "run" / "live" / "station-0-1"
    assert {path.name for path in shown.iterdir()} == {"agentview.jpg", "wrist.jpg", "shown.json"}


def test_a_client_that_is_killed_loses_the_lease_and_the_policy_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "tests.unit.rollout.steered", str(tmp_path)]
    (tmp_path / "events").mkdir()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client, ThreadPoolExecutor(1) as pool:

        def kill() -> None:
            assert client.stdout is not None
            assert client.stdout.readline() == "in hand\n"
            client.send_signal(signal.SIGKILL)

        try:
            assert client.stdout is not None
            assert client.stdout.readline() == "ready\n"
            killing = pool.submit(kill)
            arrived = play(tmp_path, [plan(0), plan(1)], infer_s=0.05)
        finally:
            client.kill()
        killing.result()
    assert all(result.outcome is Outcome.TIMEOUT for result, _ in arrived.values())
    (episode,) = [episode for result, episode in arrived.values() if result.num_intervention_steps]
    assert episode is not None
    (rows,) = np.nonzero(episode.source == Source.INTERVENTION)
    np.testing.assert_array_equal(rows, np.arange(rows[0], rows[0] + 3))
    assert episode.executed_action[rows].tolist() == [[0.5, 0, 0, 0, 0, 0, 1]] * 3
    events = EventReader(tmp_path).read_new()
    ended = next(event for event in events if event["kind"] == TAKEOVER and event["state"] == "ended")
    assert ended["text"] == "the lease of anna is over"
    steers = [event["operator"] for event in events if event["kind"] == LEASE]
    assert steers == ["anna", ""]


def test_scores_and_demonstrations_are_nobody_s_to_take_over_but_anyone_may_stop_them(tmp_path: Path) -> None:
    def steer() -> list[str]:
        scripted = Scripted(LocalRunClient(tmp_path, operator="anna"))
        other = Scripted(LocalRunClient(tmp_path, operator="bert"))
        station = scripted.station()
        said = [scripted.ask(TAKE_OVER, station=station)["text"]]
        with pytest.raises(LeaseError, match="anna steers this run"):
            other.ask(JOG, station=station, dx=1.0)
        said.append(scripted.ask(JOG, station=station, dx=1.0)["text"])
        said.append(other.ask(STOP_ROBOT, station=station)["state"])
        said.append("cleared" if fold(EventReader(tmp_path).read_new()).stations[0].is_stopped else "never stopped")
        said.append(scripted.ask(CLEAR, station=station)["state"])
        said.append(scripted.ask(TAKE_OVER, station="station-9")["text"])
        return said

    with ThreadPoolExecutor(1) as pool:
        steering = pool.submit(steer)
        arrived = play(tmp_path, [plan(is_recorded=False)])
        said = steering.result()
    assert "is scored, and a score is the policy's own" in said[0]
    assert "nobody has this station in hand" in said[1]
    assert said[2:5] == ["done", "cleared", "done"]
    assert "no station 'station-9' is here" in said[5]
    assert arrived["collect-1/000000"][0].num_intervention_steps == 0


def test_commands_one_by_one_on_the_command_line_keep_what_is_in_hand(tmp_path: Path) -> None:
    def steer() -> list[int]:
        station = Scripted(LocalRunClient(tmp_path)).station()
        words = [
            ["take_over", station, str(tmp_path), "--wait", "60"],
            ["jog", station, str(tmp_path), "--dx", "0.5", "--ticks", "3"],
            ["label", station, "failure", str(tmp_path)],
            ["jog", station, str(tmp_path), "--gripper=1"],
            ["hand_back", station, str(tmp_path)],
        ]
        return [main(["ctl", *each]) for each in words]

    with ThreadPoolExecutor(1) as pool:
        steering = pool.submit(steer)
        arrived = play(tmp_path, [plan()])
        assert steering.result() == [0] * 5
    assert arrived["collect-1/000000"][0].num_intervention_steps == 4
    summary = fold(EventReader(tmp_path).read_new())
    assert dict(summary.labels) == {"collect-1/000000": "failure"}
    assert Lease(tmp_path).held().holder == "", "with the last thing in hand the lease is given back"


def test_what_was_stopped_and_taken_over_and_handed_back_goes_on_with_its_policy(tmp_path: Path) -> None:
    def steer() -> tuple[int, int]:
        scripted = Scripted(LocalRunClient(tmp_path, operator="anna"))
        station, tick = scripted.take_over()
        assert scripted.jog(station, np.array([0, 0, 1, 0, 0, 0, 0]), ticks=5)["tick"] == tick + 4
        ended = hand_back(scripted, station)
        scripted.client.release()
        return tick, int(ended["tick"])

    with ThreadPoolExecutor(1) as pool:
        steering = pool.submit(steer)
        arrived = play(tmp_path, [plan(), plan(1, actor=Actor.EXPERT, policy_id="")], infer_s=0.02)
        first, last = steering.result()
    assert last == first + 5
    for episode_id, num_steps in (("collect-1/000000", 5), ("collect-1/000001", 0)):
        result, episode = arrived[episode_id]
        assert episode is not None
        assert result.num_intervention_steps == episode.num_intervention_steps == num_steps
    finished = [event for event in EventReader(tmp_path).read_new() if event["kind"] == EPISODE_FINISHED]
    assert len(finished) == 2
