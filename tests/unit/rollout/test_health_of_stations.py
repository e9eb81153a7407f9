"""How stations do: measured at the station, carried by its signs of life, told in the log, shown by the screens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from opentau.events import LINK, STATION, EventLog, EventReader
from opentau.rollout.health import EVERY_S, HealthTeller
from opentau.rollout.session import RolloutSession
from opentau.runfold import fold
from robot_bridge.wire.health import HealthMeter
from robot_bridge.wire.messages import Health
from robot_bridge.wire.payloads import ChunkTiming
from robot_bridge.workcell.safety import Hold
from tests.fakes import ScriptedPolicy
from tests.unit.rollout.sessions import options, plan
from tui.text.lines import plain
from tui.text.stations import LINK_STALE_S, station_detail, station_rows


def timing(net_ms: float) -> ChunkTiming:
    return ChunkTiming(obs_age_ms=net_ms + 30.0, net_ms=net_ms, queue_ms=5.0, infer_ms=20.0)


def test_a_meter_tells_medians_and_the_slow_end_of_the_newest_answers() -> None:
    meter = HealthMeter()
    assert meter.health() is None
    for net_ms in [1000.0] * 64 + [2.0] * 60 + [10.0] * 4:
        meter.add(timing(net_ms))
    health = meter.health()
    assert health is not None
    assert (health.num_answers, health.round_trip_ms, health.answer_ms, health.obs_age_ms) == (64, 2.0, 25.0, 32.0)
    assert 2.0 < health.round_trip_p95_ms <= 10.0


def test_a_robot_that_holds_is_told_before_any_answer() -> None:
    meter = HealthMeter()
    meter.hold_of = lambda: Hold.SAFE_POSE.word
    assert meter.health() == Health(hold="safe pose")
    assert Hold.NONE.word == ""


def test_the_log_hears_of_a_station_every_few_seconds_and_at_once_when_it_holds_otherwise() -> None:
    told: list[dict[str, Any]] = []
    now = [0.0]
    teller = HealthTeller(lambda kind, **facts: told.append({"kind": kind, **facts}), clock=lambda: now[0])
    well, held = (
        Health(num_answers=3, round_trip_ms=1.5, round_trip_p95_ms=4.0, answer_ms=20.0, obs_age_ms=25.0),
        Health(hold="damped"),
    )
    for second in range(12):
        now[0] = float(second)
        teller.take("arm", well)
    assert [event["round_trip_ms"] for event in told] == [1.5] * 3
    teller.take("arm", held)
    teller.take("other", well)
    assert told[-2] == {"kind": LINK, "station": "arm", "hold": "damped"}
    assert told[-1]["station"] == "other"
    assert EVERY_S == 5.0


def test_a_session_tells_how_its_stations_do(tmp_path: Path) -> None:
    with (
        EventLog(tmp_path, "main") as log,
        RolloutSession(options(num_stations=1, env={"step_s": 0.05}), policies={"p": ScriptedPolicy()}, events=log) as session,
    ):
        session.run([plan(index) for index in range(4)])
    told = [event for event in EventReader(tmp_path).read_new() if event["kind"] == LINK]
    assert told
    assert {event["station"] for event in told} == {"station-0-1"}
    assert all(0 <= event["round_trip_ms"] <= event["round_trip_p95_ms"] for event in told)
    assert told[0]["hold"] == ""
    (station,) = fold([*told]).stations
    assert station.link_t == told[-1]["t"]
    assert station.round_trip_ms == told[-1]["round_trip_ms"]


@pytest.mark.parametrize(("age_s", "word"), [(1.0, "connected"), (LINK_STALE_S + 1, "silent")])
def test_the_screens_show_the_link_and_mark_one_that_went_silent(age_s: float, word: str) -> None:
    link = {"round_trip_ms": 2.5, "round_trip_p95_ms": 9.0, "answer_ms": 21.0, "obs_age_ms": 27.0, "hold": ""}
    run = [
        {"t": 100.0, "process": "main", "kind": STATION, "station": "arm", "state": "connected", "text": ""},
        {"t": 101.0, "process": "main", "kind": LINK, "station": "arm", **link},
    ]
    summary = fold(run)
    (station,) = summary.stations
    detail = "\n".join(map(plain, station_detail(station, summary, 101.0 + age_s, 90)))
    assert "2.5 ms there and back, 95 % within 9" in detail
    assert "after 21 ms, to what was seen 27 ms before" in detail
    assert word in plain(station_rows(summary, 101.0 + age_s, 90)[1])


def test_a_robot_without_fresh_actions_is_shown_to_hold() -> None:
    summary = fold([{"t": 1.0, "process": "main", "kind": LINK, "station": "arm", "hold": "damped"}])
    (station,) = summary.stations
    assert "‖ holds" in plain(station_rows(summary, 1.0, 90)[1])
    assert "damped: it has no fresh action" in "\n".join(map(plain, station_detail(station, summary, 1.0, 90)))
