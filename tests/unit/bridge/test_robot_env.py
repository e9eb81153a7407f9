"""Episodes on a robot, in virtual time: nothing is waited for, limits hold, and what is recorded is what was executed."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from opentau.errors import LinkError, OptionError, RobotError
from opentau.types import ActionChunk, Actor, EpisodePlan, Outcome, Phase, PolicyRequest, Source
from robot_bridge.playing.chunking import ChunkingOptions, DelayEstimate
from robot_bridge.playing.playback import PlaybackOptions
from robot_bridge.playing.player import EpisodePlayer
from robot_bridge.wire.payloads import ChunkReply, PlayedEpisode
from robot_bridge.workcell.cell import Unattended, Workcell
from robot_bridge.workcell.clock import Ticker, VirtualClock
from robot_bridge.workcell.first_runs import FirstRuns
from robot_bridge.workcell.limits import Limits
from robot_bridge.workcell.robot_env import RobotEnv
from robot_bridge.workcell.safety import Hold
from robot_bridge.workcell.stop import StopLatch
from robot_bridge.workcell.takeover import TakeoverOptions
from tests.fakes import ARM_LIMITS, FakeArm

PLAN = EpisodePlan(index=0, episode_id="e/0", task_id="arm/0", seed=5, actor=Actor.POLICY, policy_id="p")
HORIZON = 16


class SlowLink:
    """A policy that draws a slow arc from where the arm is; its answers take some control ticks of the virtual clock.

    `delays` gives the ticks of the n-th answer, None for one that is lost. The server falls silent from `silent_from_s` on.
    """

    def __init__(
        self,
        clock: VirtualClock,
        *,
        delays: Callable[[int], int | None] = lambda _: 3,
        version: str = "v1",
        jump: float = 0.0,
        silent_from_s: float = float("inf"),
    ) -> None:
        self.requests: list[PolicyRequest] = []
        self.silent_from_s = silent_from_s
        self._clock, self._delays, self._version, self._jump = clock, delays, version, jump
        self._on_the_way: list[tuple[float, ChunkReply]] = []

    def next_seq(self) -> int:
        return len(self.requests) + 1

    def ask(self, plan: EpisodePlan, request: PolicyRequest, *, seq: int) -> None:
        self.requests.append(request)
        delay = self._delays(seq)
        if delay is None or self._clock.now_s() >= self.silent_from_s:
            return
        start = request.observation.state if request.prefix is None else request.prefix[-1]
        num_committed = 0 if request.prefix is None else len(request.prefix)
        ticks = np.arange(1 - num_committed, HORIZON + 1 - num_committed)[:, None]
        actions = start + ticks * np.array([0.5, -0.25, 0.0]) + self._jump * np.array([1.0, 0.0, 0.0])
        chunk = ActionChunk(actions=actions.astype(np.float32), policy_version=self._version)
        arrival_s = self._clock.now_s() + (delay - 0.5) / 30
        self._on_the_way.append((arrival_s, ChunkReply(seq=seq, episode_id=plan.episode_id, chunk=chunk)))

    def arrived_reply(self) -> ChunkReply | None:
        self._on_the_way.sort(key=lambda each: each[0])  # one that was asked for later may overtake
        is_here = bool(self._on_the_way) and self._on_the_way[0][0] <= self._clock.now_s()
        return self._on_the_way.pop(0)[1] if is_here else None

    def next_reply(self) -> ChunkReply:
        raise AssertionError("a robot waits for nothing")

    def keep_alive(self) -> None:
        if self._clock.now_s() > self.silent_from_s + 3.0:
            raise LinkError("the server has been silent for 3 s")


class ScriptedTeleop:
    """A leader arm whose human holds the switch in given ticks and says in one how the episode ended."""

    def __init__(
        self,
        *,
        held: range = range(0),
        pose: Callable[[int, np.ndarray], np.ndarray] | None = None,
        ends_at: tuple[int, Outcome] | None = None,
        stops_at: int | None = None,
    ) -> None:
        self.tick = -1
        self._held, self._pose, self._ends_at, self._stops_at = held, pose, ends_at, stops_at
        self._device = np.zeros(3, np.float32)

    def connect(self) -> None: ...

    def close(self) -> None: ...

    def pose(self) -> np.ndarray | None:
        self.tick += 1  # asked for first in every tick
        return None if self._pose is None else self._pose(self.tick, self._device)

    def wants_control(self) -> bool:
        return self.tick in self._held

    def act(self, state: np.ndarray) -> np.ndarray:
        return np.array([10.0 + 0.25 * self.tick, -20.0, 50.0], np.float32)

    def verdict(self) -> Outcome | None:
        return self._ends_at[1] if self._ends_at is not None and self.tick >= self._ends_at[0] else None

    def wants_stop(self) -> bool:
        is_pressed = self.tick == self._stops_at
        self._stops_at = None if is_pressed else self._stops_at
        return is_pressed

    def wants_rearm(self) -> bool:
        return False


@dataclasses.dataclass
class Rig:
    """A fake arm in a workcell on a virtual clock, and the player on it."""

    arm: FakeArm
    cell: Workcell
    env: RobotEnv
    link: SlowLink
    player: EpisodePlayer
    said: list[str]

    def play(self, plan: EpisodePlan = PLAN) -> PlayedEpisode:
        return self.player.play(plan)


def rig(
    *,
    arm: FakeArm | None = None,
    limits: dict | None = None,
    teleop: ScriptedTeleop | None = None,
    operator: object | None = None,
    state: Path | None = None,
    latch: StopLatch | None = None,
    max_steps: int = 60,
    chunking: ChunkingOptions | None = None,
    known: tuple[str, ...] = ("v1",),
    takeover: TakeoverOptions | None = None,
    on_wait: Callable[[], None] = lambda: None,
    label_wait_s: float = 0.0,
    **link: object,
) -> Rig:
    arm, clock, said = arm or FakeArm(), VirtualClock(), []
    first_runs = FirstRuns(state)
    for version in known:
        first_runs.remember(version)
    cell = Workcell(
        robot=arm,
        limits=Limits.from_plain(ARM_LIMITS | (limits or {})),
        ticker=Ticker(clock, hz=30.0),
        latch=latch or StopLatch(),
        first_runs=first_runs,
        operator=operator or Unattended(),
        teleop=teleop,
        say=said.append,
    )
    env = RobotEnv(cell, task_id="arm/0", prompt="wave", max_steps=max_steps, label_wait_s=label_wait_s, on_wait=on_wait)
    wire = SlowLink(clock, **link)
    player = EpisodePlayer(
        env,
        link=wire,
        options=PlaybackOptions(
            execute_horizon=8, delay_ticks=2, chunking=chunking or ChunkingOptions(num_warm_up=0), control_hz=30.0
        ),
        takeover=takeover,
        delay=DelayEstimate(start_ticks=2, num_warm_up=0),
        on_tick=wire.keep_alive,
    )
    return Rig(arm=arm, cell=cell, env=env, link=wire, player=player, said=said)


def require_within_limits(commands: list[np.ndarray], *, scale: float = 1.0) -> None:
    path = np.array(commands, np.float64)
    step, change = np.array([3.0, 3.0, 5.0]), np.array([0.5, 0.5, 1.0])
    assert (np.abs(np.diff(path, axis=0)) <= scale * step + 1e-4).all()
    assert (np.abs(np.diff(path, n=2, axis=0)) <= scale * change + 1e-4).all()


def test_an_episode_on_a_robot_records_what_was_executed_and_how():
    run = rig()
    played = run.play()
    episode = played.episode
    assert played.result.outcome is Outcome.TIMEOUT
    assert len(episode) == played.result.num_steps == 60
    np.testing.assert_array_equal(episode.executed_action, np.array(run.arm.commands)[:60])
    np.testing.assert_array_equal(episode.action, episode.executed_action)
    assert episode.sim_state.shape == (60, 0)
    assert episode.limits_id == played.limits_id == run.cell.limits.id
    assert set(episode.source) == {Source.AUTONOMOUS}
    is_waiting = episode.robot["fsm_state"] == Phase.RESUME
    assert is_waiting.tolist() == [True] * 3 + [False] * 57, "the first chunk takes three ticks; then none is waited for"
    np.testing.assert_array_equal(np.isnan(episode.policy_action[:, 0]), is_waiting)
    assert (episode.robot["hold_level"] == Hold.NONE)[3:].all()
    np.testing.assert_allclose(episode.robot["obs_age_ms"], 20.0)
    require_within_limits(run.arm.commands)
    assert played.report.num_held == 0
    assert played.report.timing.num_missed == 0
    assert played.report.delay_ticks == 3
    assert [request.prefix is None for request in run.link.requests].count(True) == 1


def test_a_policy_that_jumps_is_clamped_counted_and_marked_frame_by_frame():
    run = rig(jump=40.0, chunking=ChunkingOptions(mode="naive", num_warm_up=0))
    played = run.play()
    masks = played.episode.robot["clip_mask"]
    assert masks.shape == (60, 3)
    assert played.num_clipped_actions == np.count_nonzero(masks.any(axis=1)) > 5
    is_changed = np.abs(played.episode.policy_action - played.episode.executed_action) > 1e-3
    assert (masks[is_changed] != 0).all()
    require_within_limits(run.arm.commands)


@pytest.mark.parametrize("mode", ["trained", "hold"])
def test_beyond_what_can_be_bridged_the_robot_holds_instead_of_being_refused(mode):
    run = rig(delays=lambda _: 12, chunking=ChunkingOptions(mode=mode, num_warm_up=0), max_steps=100)
    episode = run.play().episode
    is_held = np.isnan(episode.policy_action[:, 0])
    later = is_held[40:]
    assert later.any()
    assert not later.all()
    require_within_limits(run.arm.commands)


def test_a_lost_answer_is_held_through_and_asked_for_again():
    run = rig(delays=lambda seq: None if seq == 3 else 3, max_steps=200)
    played = run.play()
    assert played.report.num_unanswered == 1
    held = np.flatnonzero(played.episode.robot["hold_level"] > 0)
    assert 1 <= len(held) <= 8
    assert np.isfinite(played.episode.policy_action[held[-1] + 1 :]).all()
    require_within_limits(run.arm.commands)


@pytest.mark.parametrize("mode", ["trained", "blend", "naive", "hold"])
@pytest.mark.parametrize("mean_ms", [50, 200, 400, 800])
def test_under_delays_with_jitter_and_losses_every_unplanned_tick_is_held_and_the_robot_goes_on(mode, mean_ms):
    """Answers take half to one and a half times `mean_ms`, one in twenty is lost, and later ones may overtake."""
    rng = np.random.default_rng(mean_ms)
    fates: list[int | None] = [
        None if rng.random() < 0.05 else 1 + round(mean_ms * rng.uniform(0.5, 1.5) / 1000 * 30) for _ in range(1000)
    ]
    run = rig(delays=lambda seq: fates[seq], chunking=ChunkingOptions(mode=mode, num_warm_up=0), max_steps=600)
    played = run.play()
    episode = played.episode
    assert played.result.outcome is Outcome.TIMEOUT
    require_within_limits(run.arm.commands)
    unplanned = np.isnan(episode.policy_action[:, 0])
    is_waiting = episode.robot["fsm_state"] == Phase.RESUME
    np.testing.assert_array_equal(episode.robot["hold_level"] > 0, unplanned & ~is_waiting)
    held = np.flatnonzero(unplanned & ~is_waiting)
    assert played.report.num_held == len(held)
    moving = np.abs(np.diff(episode.executed_action, axis=0)).max(axis=1) > 1e-4
    is_braked = [tick for tick in held[1:] if tick - 1 in held and episode.robot["hold_level"][tick] == Hold.DECELERATE]
    assert not moving[[tick - 1 for tick in is_braked if tick - 2 in held]].any(), "at rest two ticks after the last action"
    assert not unplanned[-120:].all(), "it goes on"


def test_while_the_server_is_silent_the_robot_goes_down_the_ladder_and_the_episode_is_kept_as_aborted():
    run = rig(silent_from_s=1.0, max_steps=1000)
    played = run.play()
    assert played.result.outcome is Outcome.ABORTED
    assert "silent for 3 s" in played.result.message
    episode = played.episode
    assert len(episode) == played.result.num_steps == len(episode.robot["hold_level"])
    assert 110 <= len(episode) <= 130
    levels = [level for level in dict.fromkeys(episode.robot["hold_level"].tolist()) if level]
    assert levels == [Hold.DECELERATE, Hold.DAMPED, Hold.SAFE_POSE]
    np.testing.assert_allclose(episode.executed_action[-1][:2], 0.0, atol=1e-4)
    require_within_limits(run.arm.commands)


def test_a_link_that_lives_but_brings_no_actions_aborts_the_episode_by_rule():
    run = rig(delays=lambda seq: None if seq > 2 else 3, limits={"abort_after_s": 2.0}, max_steps=1000)
    played = run.play()
    assert played.result.outcome is Outcome.ABORTED
    assert "no fresh action for 2.0 s, the limit is 2 s" in played.result.message
    assert len(played.episode) < 100


def test_failing_hardware_aborts_the_episode_keeps_it_and_is_opened_anew():
    run = rig(arm=FakeArm(fails_at=20))
    played = run.play()
    assert played.result.outcome is Outcome.ABORTED
    assert "elbow" in played.result.message
    assert len(played.episode) == 20
    assert run.play(dataclasses.replace(PLAN, episode_id="e/1")).result.outcome is Outcome.TIMEOUT
    assert run.arm.num_connections == 2


def test_tasks_share_one_robot_and_one_connection():
    run = rig()
    other = RobotEnv(run.cell, task_id="arm/1", prompt="bow", max_steps=5)
    run.play()
    other.begin(dataclasses.replace(PLAN, task_id="arm/1"))
    other.reset()
    run.play(dataclasses.replace(PLAN, episode_id="e/1"))
    assert run.arm.num_connections == 1
    other.close()
    assert run.play(dataclasses.replace(PLAN, episode_id="e/2")).result.outcome is Outcome.TIMEOUT
    assert run.arm.num_connections == 2


def test_a_device_that_fails_aborts_the_episode_and_is_opened_anew_with_the_robot():
    class Flaky(ScriptedTeleop):
        num_connections = 0

        def connect(self) -> None:
            self.num_connections += 1

        def wants_control(self) -> bool:
            if self.tick == 10:
                raise RobotError("the leader arm does not answer; check its cable")
            return False

    teleop = Flaky()
    run = rig(teleop=teleop)
    played = run.play()
    assert (played.result.outcome, len(played.episode)) == (Outcome.ABORTED, 10)
    assert "leader" in played.result.message
    assert run.play(dataclasses.replace(PLAN, episode_id="e/1")).result.outcome is Outcome.TIMEOUT
    assert teleop.num_connections == 2


def test_a_sensor_that_fell_silent_ends_the_episode_and_is_named():
    run = rig()
    run.arm.reading_age_s = 1.5
    with pytest.raises(RobotError, match=r"reading of state is 1\.50 s old"):
        run.play()


def test_a_human_takes_over_and_the_columns_say_exactly_who_did_what():
    """The switch is held in ticks 20 to 39; the leader is far away until tick 27 and lies on the arm from then on."""
    leader = {"arm": None}

    def pose(tick: int, _: np.ndarray) -> np.ndarray:
        away = 30.0 if tick < 27 else 0.0
        return leader["arm"].read().state + np.array([away, 0.0, 0.0], np.float32)

    teleop = ScriptedTeleop(held=range(20, 40), pose=pose, ends_at=(59, Outcome.SUCCESS))
    run = rig(teleop=teleop, takeover=TakeoverOptions(release_ticks=5), max_steps=1000)
    leader["arm"] = run.arm
    played = run.play()
    episode = played.episode
    phases = episode.robot["fsm_state"].tolist()
    pause = next(tick for tick in range(21, 27) if phases[tick] == Phase.ALIGN) - 20
    expected = [Phase.RESUME] * 3 + [Phase.AUTONOMOUS] * 17 + [Phase.PAUSED] * pause + [Phase.ALIGN] * (7 - pause)
    expected += [Phase.HUMAN] * 13 + [Phase.PAUSED] * 4 + [Phase.RESUME] * 3 + [Phase.AUTONOMOUS] * 13
    assert phases == expected
    is_human = np.isin(phases, [Phase.PAUSED, Phase.ALIGN, Phase.HUMAN])
    assert (episode.source == np.where(is_human, Source.INTERVENTION, Source.AUTONOMOUS)).all()
    assert played.result.num_intervention_steps == np.count_nonzero(is_human)
    asked = np.isfinite(episode.policy_action[:, 0])
    assert np.flatnonzero(asked).tolist() == [*range(3, 21), *range(47, 60)], "what the policy proposed as it was relieved"
    assert played.result.outcome is Outcome.SUCCESS
    assert episode.reward.tolist() == [0.0] * 59 + [1.0]
    human = np.flatnonzero(np.array(phases) == Phase.HUMAN)
    np.testing.assert_allclose(episode.executed_action[human[-1]], [10.0 + 0.25 * human[-1], -20.0, 50.0], atol=1e-3)
    fresh = [request.tick for request in run.link.requests if request.prefix is None]
    assert fresh == [0, 44], "planned afresh after the human"
    require_within_limits(run.arm.commands)


def test_the_robot_can_come_to_the_device_slowly():
    goal = np.array([40.0, -20.0, 50.0], np.float32)
    teleop = ScriptedTeleop(held=range(20, 400), pose=lambda *_: goal)
    run = rig(teleop=teleop, takeover=TakeoverOptions(moves_robot=True), max_steps=200)
    episode = run.play().episode
    aligning = episode.robot["fsm_state"] == Phase.ALIGN
    assert aligning.any()
    steps = np.abs(np.diff(episode.executed_action[aligning], axis=0))
    assert steps.max() <= 0.75 + 1e-4, "a quarter of the velocity limit"
    assert episode.robot["fsm_state"][-1] == Phase.HUMAN


def test_a_demonstration_is_the_humans_from_the_first_tick_to_the_last():
    plan = dataclasses.replace(PLAN, actor=Actor.EXPERT, policy_id="")
    run = rig(teleop=ScriptedTeleop(held=range(5, 30), ends_at=(40, Outcome.FAILURE)))
    played = run.play(plan)
    assert played.result.outcome is Outcome.FAILURE
    assert set(played.episode.source) == {Source.DEMONSTRATION}
    assert run.link.requests == []
    assert np.isnan(played.episode.policy_action).all()
    assert played.episode.robot["fsm_state"].tolist() == [Phase.PAUSED] * 5 + [Phase.HUMAN] * 25 + [Phase.PAUSED] * 11
    with pytest.raises(OptionError, match="set `teleop`"):
        rig().play(plan)


def test_a_discarded_episode_is_aborted():
    played = rig(teleop=ScriptedTeleop(ends_at=(10, Outcome.ABORTED))).play()
    assert (played.result.outcome, played.result.message) == (Outcome.ABORTED, "discarded")


class Operator:
    """Sets the scene up after a while and says in a given tick what came of the episode."""

    def __init__(self, *, ready_after: int, ends_at: int) -> None:
        self.num_polled, self._ready_after, self._ends_at = 0, ready_after, ends_at
        self.plans: set[str] = set()

    def prepare(self, plan: EpisodePlan) -> bool:
        self.num_polled += 1
        self.plans.add(plan.episode_id)
        return self.num_polled > self._ready_after

    def verdict(self, plan: EpisodePlan, *, tick: int) -> Outcome | None:
        return Outcome.SUCCESS if tick >= self._ends_at else None


def test_the_station_lives_while_the_operator_sets_the_scene_up_and_the_arm_begins_at_its_start_pose():
    operator, alive = Operator(ready_after=50, ends_at=7), []
    start = {"shoulder": 0.0, "elbow": 0.0, "gripper": 10.0}
    run = rig(operator=operator, limits={"start_pose": start}, on_wait=lambda: alive.append(1))
    played = run.play()
    assert operator.plans == {"e/0"}
    assert len(alive) > 50
    assert (played.result.outcome, played.result.num_steps) == (Outcome.SUCCESS, 7)
    np.testing.assert_allclose(played.episode.state[0], [0.0, 0.0, 10.0], atol=1.8)
    require_within_limits(run.arm.commands)
    assert run.said == ["waiting for the scene to be set up"]
    assert played.report.human_s == pytest.approx(50 / 30, abs=0.1)  # fifty ticks of the operator's, none of a human's hands


@pytest.mark.parametrize(("says_at", "outcome"), [(80, Outcome.SUCCESS), (200, Outcome.TIMEOUT)])
def test_the_operator_has_a_while_after_the_last_step_to_say_what_came_of_it(says_at, outcome):
    class LateOperator(Unattended):
        num_polled = 0

        def verdict(self, plan: EpisodePlan, *, tick: int) -> Outcome | None:
            self.num_polled += 1
            return Outcome.SUCCESS if self.num_polled >= says_at else None

    run = rig(operator=LateOperator(), label_wait_s=2.0)
    played = run.play()
    assert (played.result.outcome, len(played.episode)) == (outcome, 60)
    assert played.episode.reward[-1] == (outcome is Outcome.SUCCESS)


def test_an_arm_that_cannot_come_to_its_start_pose_says_so():
    arm = FakeArm(lag=0.0)
    with pytest.raises(RobotError, match="sent to its start pose"):
        rig(arm=arm, limits={"start_pose": {"shoulder": 60.0}}).play()


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


def test_the_first_run_of_a_checkpoint_moves_at_a_quarter_of_the_limits_says_so_and_is_remembered(tmp_path):
    state = tmp_path / "first_runs.json"
    fast = {"jump": 40.0, "chunking": ChunkingOptions(mode="naive", num_warm_up=0), "state": state, "known": ()}
    first = rig(**fast)
    played = first.play()
    require_within_limits(first.arm.commands, scale=0.25)
    assert played.report.is_first_run
    assert first.said == ["first run of v1 on this robot: it moves at 0.25 of its limits in this episode"]
    assert json.loads(state.read_text()) == {"policy_versions": ["v1"]}
    second = rig(**fast)
    assert not second.play().report.is_first_run
    assert np.abs(np.diff(np.array(second.arm.commands), axis=0)).max() > 0.76
    third = rig(**fast, version="v2")
    assert third.play().report.is_first_run


def test_a_first_run_that_was_stopped_is_still_to_be_had(tmp_path):
    run = rig(state=tmp_path / "f.json", known=(), teleop=ScriptedTeleop(stops_at=30))
    run.play()
    assert not FirstRuns(tmp_path / "f.json").has_run("v1")


def test_a_damaged_memory_of_first_runs_is_not_taken_for_an_empty_one(tmp_path):
    (tmp_path / "f.json").write_text("[]")
    with pytest.raises(RobotError, match="delete it"):
        FirstRuns(tmp_path / "f.json")


def test_plans_are_dropped_after_the_loop_stood_still():
    """The process is stopped for two seconds, as a sleeping machine or a debugger would: the plan from before is stale."""
    run = rig(max_steps=100)
    command = run.arm.command

    def sleepy(action: np.ndarray) -> None:
        command(action)
        if len(run.arm.commands) == 40:
            run.cell.ticker.clock.wait_until(run.cell.ticker.clock.now_s() + 2.0)

    run.arm.command = sleepy  # type: ignore[method-assign]
    played = run.play()
    assert played.report.timing.num_missed >= 58
    assert sum(request.prefix is None for request in run.link.requests) == 2
    require_within_limits(run.arm.commands)
