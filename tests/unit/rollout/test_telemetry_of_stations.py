"""A viewer beside a session sees what its stations do, and changes nothing of it."""

from __future__ import annotations

import dataclasses
import threading
import time

import zmq

from opentau.rollout.session import RolloutSession
from robot_bridge.wire.telemetry import TelemetryViewer
from tests.fakes import CAMERAS, ScriptedPolicy
from tests.unit.rollout.sessions import options, plan


def test_a_viewer_sees_state_and_previews_and_the_episodes_are_the_same():
    plans = [plan(index) for index in range(3)]
    slow = options(num_stations=1, env={"step_s": 0.01})
    with RolloutSession(slow, policies={"p": ScriptedPolicy()}) as session:
        unseen = session.run(plans)
        assert session.viewer_endpoint is None
    context, seen = zmq.Context(), {}
    with RolloutSession(dataclasses.replace(slow, telemetry_port=0), policies={"p": ScriptedPolicy()}) as session:
        results: list = []
        thread = threading.Thread(target=lambda: results.extend(session.run(plans)))
        topics = ("state/", "preview/")
        with TelemetryViewer(context, endpoint=session.viewer_endpoint, session=session.session_id, topics=topics) as viewer:
            thread.start()
            deadline = time.monotonic() + 60.0
            while thread.is_alive() and time.monotonic() < deadline:
                seen |= viewer.newest(timeout_s=0.05)
            thread.join(60.0)
    context.term()
    assert results == unseen
    assert set(seen) == {"state/station-0-1", *(f"preview/station-0-1/{camera}" for camera in CAMERAS)}
    state, _ = seen["state/station-0-1"]
    assert state.episode_id in {plan.episode_id for plan in plans}
    assert state.obs_age_ms > 0.0
