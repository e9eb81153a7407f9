"""Links that delay, lose, double and reorder what they carry, stand still or break: the arm holds, goes on, loses no frame."""

from __future__ import annotations

import time

import numpy as np
import pytest

from opentau.types import Outcome
from robot_bridge.security.keys import keys_dir, make_pair, save_pair
from robot_bridge.security.trust import Role, TrustList
from tests.faults.proxies import MessageProxy, Weather, Wire
from tests.faults.scene import num_held

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]

WEATHERS = {
    "slow": Weather(delay_s=0.8),
    "lossy": Weather(loss=0.3, delay_s=0.05),
    "everything": Weather(delay_s=0.4, loss=0.15, duplication=0.3, reordering=0.3),
}


@pytest.mark.parametrize("name", WEATHERS)
def test_in_bad_weather_nothing_stale_is_played_and_nothing_is_lost(make_scene, name):
    scene, weather = make_scene(num_ticks=90), WEATHERS[name]
    run = scene.start_run()
    control_weather = Weather(delay_s=min(0.2, weather.delay_s), keeps_order=True)
    with (
        MessageProxy(f"tcp://127.0.0.1:{scene.control_port}", control_weather, seed=1) as control,
        MessageProxy(f"tcp://127.0.0.1:{scene.inference_port}", weather, seed=2) as inference,
    ):
        arm = scene.start_arm(control_endpoint=control.endpoint, inference_endpoint=inference.endpoint)
        scene.finish(run, arm)
    episodes = scene.episodes()
    assert {str(episode["outcome"]) for episode in episodes} == {str(Outcome.TIMEOUT)}
    assert inference.num_passed > 0
    assert bool(inference.num_lost) == bool(weather.loss)
    assert bool(inference.num_doubled) == bool(weather.duplication)
    if weather.reordering:
        assert inference.num_overtaken > 0
    assert sum(num_held(episode, after=2) for episode in episodes) > 0, "the weather was felt"
    assert all(np.isfinite(episode["policy_action"]).all(axis=1).any() for episode in episodes), "and borne"


@pytest.mark.parametrize("kind", ["stand_still", "cut"])
def test_a_blackout_of_two_seconds_is_held_through_and_the_episode_goes_on(make_scene, monkeypatch, tmp_path, kind):
    monkeypatch.setenv("OPENTAU_KEYS", str(tmp_path / "keys"))
    for name, role in (("server", Role.POLICY), ("arm", Role.ROBOT)):
        pair = make_pair(name)
        save_pair(pair, keys_dir())
        TrustList(keys_dir()).trust(name, pair.public, role)
    scene = make_scene(num_episodes=1, num_ticks=150, keys="server")
    run = scene.start_run()
    with Wire(scene.control_port) as control, Wire(scene.inference_port) as inference:
        arm = scene.start_arm(
            control_endpoint=control.endpoint,
            inference_endpoint=inference.endpoint,
            secret_file=str(keys_dir() / "arm.secret.yaml"),
        )
        scene.let_play(40, arm=arm)
        for wire in (control, inference):
            getattr(wire, kind)()
        time.sleep(2.0)
        num_before = scene.num_commands
        for wire in (control, inference):
            wire.flow()
        scene.finish(run, arm)
    [episode] = scene.episodes()
    assert str(episode["outcome"]) == Outcome.TIMEOUT
    is_fresh = np.isfinite(episode["policy_action"]).all(axis=1)
    held = np.flatnonzero(~is_fresh[2:]) + 2
    assert len(held), "the blackout was felt"
    assert is_fresh[held[0] :].any(), "the policy acts again"
    assert num_before < scene.num_commands
