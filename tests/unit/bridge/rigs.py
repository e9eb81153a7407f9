"""A robot in virtual time for tests: a fake arm in its workcell, a policy that takes its time, a human with a script."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from opentau.errors import LinkError
from opentau.types import ActionChunk, Actor, EpisodePlan, Outcome, PolicyRequest
from robot_bridge.playing.chunking import ChunkingOptions, DelayEstimate
from robot_bridge.playing.playback import PlaybackOptions
from robot_bridge.playing.player import EpisodePlayer
from robot_bridge.wire.payloads import ChunkReply, PlayedEpisode
from robot_bridge.workcell.cell import Unattended, Workcell
from robot_bridge.workcell.clock import Ticker, VirtualClock
from robot_bridge.workcell.first_runs import FirstRuns
from robot_bridge.workcell.limits import Limits
from robot_bridge.workcell.robot_env import RobotEnv
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
    has_link: bool = True,
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
        link=wire if has_link else None,
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
