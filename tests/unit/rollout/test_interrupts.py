"""Ctrl-C and sudden death of the process that runs a session: no station survives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

PROGRAM = """
import signal
from opentau.rollout.session import RolloutSession
from tests.fakes import ScriptedPolicy
from tests.unit.rollout.sessions import options, plan

# Started in the background, a shell has its programs ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
with RolloutSession(options(env={"step_s": 0.01}), policies={"p": ScriptedPolicy()}) as session:
    session.run([plan(i) for i in range(500)], on_episode=lambda result, episode: print("episode", flush=True))
"""


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_no_station_outlives_the_process_that_started_it(ending):
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
        start_new_session=True,
    ) as program:
        assert program.stdout.readline() == b"episode\n"
        stations = psutil.Process(program.pid).children(recursive=True)
        assert len(stations) == 2
        if ending is signal.SIGINT:
            os.killpg(program.pid, ending)  # a terminal sends it to everybody
        else:
            os.kill(program.pid, ending)
        _, words = program.communicate(timeout=10)
    deadline = time.monotonic() + 5.0
    while any(station.is_running() for station in stations) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(station.is_running() for station in stations)
    if ending is signal.SIGINT:
        assert words.count(b"Traceback") == 1, "only the interrupted program itself speaks of it"
