"""The latched stop: whoever trips it, nothing moves until somebody on the spot releases it."""

from __future__ import annotations

import dataclasses
import os
import signal

import numpy as np
import pytest

from opentau.types import Outcome
from robot_bridge.workcell.safety import Hold
from robot_bridge.workcell.stop import StopLatch
from tests.unit.bridge.rigs import PLAN, ScriptedTeleop, require_within_limits, rig


def test_a_stop_ends_the_episode_at_rest_and_no_other_begins_until_it_is_released():
    latch, waits = StopLatch(), []

    def release_at_last() -> None:
        waits.append(1)
        if len(waits) == 40:
            latch.rearm()

    run = rig(teleop=ScriptedTeleop(stops_at=30), latch=latch, max_steps=1000, on_wait=release_at_last)
    played = run.play()
    assert played.result.outcome is Outcome.ABORTED
    assert played.result.message == "stopped: the stop of ScriptedTeleop"
    assert played.episode.robot["hold_level"][-1] == Hold.STOPPED
    assert 30 < len(played.episode) < 40
    commands = len(run.arm.commands)
    run.play(dataclasses.replace(PLAN, episode_id="e/1"))
    assert len(waits) >= 40
    assert (np.ptp(np.array(run.arm.commands[commands : commands + 39]), axis=0) < 1e-4).all()
    require_within_limits(run.arm.commands[:commands])


def test_a_release_that_was_pressed_before_the_stop_does_not_count_after_it():
    class Keys:
        def __init__(self) -> None:
            self.pressed: list[str] = []

        def wants_stop(self) -> bool:
            return self._takes("stop")

        def wants_rearm(self) -> bool:
            return self._takes("rearm")

        def _takes(self, key: str) -> bool:
            is_pressed = key in self.pressed
            self.pressed = [each for each in self.pressed if each != key]
            return is_pressed

    latch, keys = StopLatch(), Keys()
    for pressed, is_set in ((["rearm"], False), ([], False), (["stop"], True), ([], True), (["rearm", "stop"], True)):
        keys.pressed += pressed
        latch.poll(None, keys, object())
        assert latch.is_set == is_set
    keys.pressed.append("rearm")
    latch.poll(keys)
    assert not latch.is_set


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="Windows has no such signals; there the stop is a key")
def test_a_signal_trips_the_stop_and_another_one_releases_it():
    handlers = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    try:
        latch = StopLatch()
        latch.listen()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert latch.is_set
        os.kill(os.getpid(), signal.SIGUSR2)
        assert not latch.is_set
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_a_stop_can_switch_the_power_off_once_the_robot_rests():
    run = rig(teleop=ScriptedTeleop(stops_at=30), limits={"relaxes_on_stop": True}, max_steps=1000)
    run.play()
    assert run.arm.is_relaxed
