"""A human elsewhere who takes a station's episode in hand: what was asked, in order, and what came of each."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Literal, Protocol

import numpy as np

from opentau.control import CLEAR, HAND_BACK, JOG, STOP_ROBOT, TAKE_OVER
from opentau.types import Actor, EpisodePlan, Interface
from robot_bridge.teleops.jogging import Jog
from robot_bridge.wire.images import CodedImage
from robot_bridge.wire.liveness import Silence
from robot_bridge.wire.messages import Payload, Shown, Steer, Steered
from robot_bridge.wire.telemetry import PREVIEW_QUALITY, shrunk
from robot_bridge.workcell.stop import StopLatch

HAND_BACK_AFTER_S = 120.0
"""How long an episode in hand waits for the next jog before its policy goes on."""
POLL_S = 0.02
SHOWN_S = 0.2
"""Time between two pictures for whoever has it in hand, while it moves."""
DIRECTIONS = {"droll": "drx", "dpitch": "dry", "dyaw": "drz"}
"""Directions of a jog that action dimensions call otherwise."""


class SteerLink(Protocol):
    """The way from and to whoever steers."""

    @property
    def session(self) -> str: ...

    def wait_for_steers(self, timeout_s: float) -> None:
        """Have what arrives within this time received, and keep the link alive."""
        ...

    def send_control(self, message: Steered | Shown, arrays: Mapping[str, Payload] | None = None) -> None: ...


class Hands:
    """Who has this station in hand, and what they asked for that was not played yet.

    What is asked is played in the order in which it came. A simulator waits for the next jog; after `HAND_BACK_AFTER_S` without
    one, and when the server says that the lease is over, its policy goes on. Only a recorded episode of a policy can be taken
    over: a score is the policy's own, and a demonstration the expert's.
    """

    def __init__(self, link: SteerLink, *, latch: StopLatch | None = None, idle_s: float = HAND_BACK_AFTER_S) -> None:
        """`latch` is a robot's; a robot is taken over at its own device, and re-armed on the spot."""
        self._link = link
        self._latch = latch
        self._idle_s = idle_s
        self._asked: deque[Steer] = deque()
        self._num_ticks = 0
        """Control steps of the first jog that were played."""
        self._is_stopped = False
        self._plan: EpisodePlan | None = None
        self._tick = 0
        self._since_shown = Silence()
        self.operator = ""
        """Who has the episode in hand; '' for nobody."""

    def begin(self, plan: EpisodePlan, interface: Interface) -> None:
        """Begin an episode; what was asked for since the last one is of it."""
        self._plan, self._tick = plan, 0
        self._jog = Jog(interface=interface, speed=1.0)
        self._names = interface.action_names

    def end(self) -> None:
        """End the episode; whoever has it in hand has nothing any more."""
        self._let_go("the episode is over")
        self._plan = None

    def receive(self, steer: Steer) -> None:
        """Take what has just arrived; a stop counts at once, all else in its turn."""
        if steer.verb == STOP_ROBOT:
            self._stop(steer)
        elif steer.verb == CLEAR:
            self._clear(steer)
        elif self._latch is not None:
            self._answer(steer, "refused", "a robot is taken over with the device at its station (teleop), not from elsewhere")
        elif steer.verb == HAND_BACK and not steer.command_id:
            self._let_go(steer.text)
        else:
            self._asked.append(steer)

    def attend(self, tick: int) -> None:
        """Look at what was asked before a step is played; a stopped simulator waits here until it is cleared."""
        self._tick = tick
        while self._is_stopped:
            self._link.wait_for_steers(POLL_S)
        while self._asked and not (self.operator and self._asked[0].verb == JOG):
            self._take_turn(self._asked.popleft())

    def next_action(self, state: np.ndarray, *, last: np.ndarray | None) -> np.ndarray | None:
        """Wait for the next jog and return its action, float32 [A]; None once the episode is not in hand any more.

        `last` [A] was executed before: a gripper keeps what it was commanded.
        """
        idle = Silence()
        while self.operator:
            self.attend(self._tick)
            if self.operator and self._asked and self._can_move(self._asked[0]):
                return self._jogged(self._asked[0], state, last)
            self._link.wait_for_steers(POLL_S)
            if idle.advance() > self._idle_s:
                self._let_go(f"nothing was asked of it for {self._idle_s:g} s")
        return None

    def show(self, observation: Mapping[str, Any]) -> None:
        """Let whoever has it in hand see what is there: when it waits for them, and now and then while it moves."""
        if self._asked and self._since_shown.advance() < SHOWN_S:
            return
        self._since_shown.heard()
        assert self._plan is not None, "shown within an episode"
        arrays: dict[str, Payload] = {"state": np.asarray(observation["state"], np.float32)}
        for camera, pixels in observation["images"].items():
            arrays[f"images.{camera}"] = CodedImage.of(shrunk(pixels), quality=PREVIEW_QUALITY)
        message = Shown(session=self._link.session, episode_id=self._plan.episode_id, tick=self._tick)
        self._link.send_control(message, arrays)

    def _can_move(self, steer: Steer) -> bool:
        unknown = [name for name, rate in steer.rates.items() if rate and self._own_name(name) not in self._names]
        if unknown:
            self._asked.popleft()
            self._answer(steer, "refused", f"this station moves {', '.join(self._names)}, not {', '.join(unknown)}")
        return not unknown

    def _own_name(self, direction: str) -> str:
        return direction if direction in self._names else DIRECTIONS.get(direction, direction)

    def _jogged(self, steer: Steer, state: np.ndarray, last: np.ndarray | None) -> np.ndarray:
        rates = {self._own_name(name): rate for name, rate in steer.rates.items()}
        if last is not None:
            self._jog.keep(last)
        action = self._jog.act(state, rate_A=np.array([rates.get(name, 0.0) for name in self._names]))
        self._num_ticks += 1
        if self._num_ticks >= steer.ticks:
            self._asked.popleft()
            self._num_ticks = 0
            self._answer(steer, "done")
        return action

    def _take_turn(self, steer: Steer) -> None:
        if steer.verb == TAKE_OVER:
            self._take_over(steer)
        elif steer.verb == HAND_BACK and self.operator:
            self._let_go("handed back")
            self._answer(steer, "done")
        else:
            self._answer(steer, "refused", "nobody has this station in hand; take_over comes first")

    def _take_over(self, steer: Steer) -> None:
        plan = self._plan
        assert plan is not None, "turns are taken within an episode"
        if plan.actor is not Actor.POLICY:
            self._answer(steer, "refused", f"{plan.episode_id} is a demonstration; take over where a policy acts")
        elif not plan.is_recorded:
            self._answer(steer, "refused", f"{plan.episode_id} is scored, and a score is the policy's own; stop_robot stops it")
        else:
            is_new, self.operator = self.operator != steer.operator, steer.operator
            self._answer(steer, "done", f"{plan.episode_id} is yours at step {self._tick}")
            if is_new:
                self._tell("began")

    def _let_go(self, why: str) -> None:
        """Give the episode back; jogs that were not played come to nothing."""
        left, self._asked, self._num_ticks = self._asked, deque[Steer](), 0
        for steer in left:
            if self._plan is None or not self.operator:
                self._asked.append(steer)  # for the next episode
            else:
                self._answer(steer, "refused", why)
        if self.operator:
            self._tell("ended", why)
            self.operator = ""

    def _stop(self, steer: Steer) -> None:
        if self._latch is not None:
            self._latch.trip(f"the stop of {steer.operator}, from elsewhere")
        self._is_stopped = self._latch is None
        self._answer(steer, "done", "a robot comes to rest, and its episode ends" if self._latch else "it stands still")

    def _clear(self, steer: Steer) -> None:
        if self._latch is not None:
            self._answer(steer, "refused", "a robot is re-armed on the spot: its device's key, or SIGUSR2 to its station")
            return
        self._is_stopped = False
        self._answer(steer, "done")

    def _answer(self, steer: Steer, state: Literal["done", "refused"], text: str = "") -> None:
        self._say(state, command_id=steer.command_id, operator=steer.operator, text=text)

    def _tell(self, state: Literal["began", "ended"], text: str = "") -> None:
        self._say(state, operator=self.operator, text=text)

    def _say(
        self, state: Literal["done", "refused", "began", "ended"], *, operator: str, text: str, command_id: str = ""
    ) -> None:
        self._link.send_control(
            Steered(
                session=self._link.session,
                state=state,
                command_id=command_id,
                operator=operator,
                episode_id="" if self._plan is None else self._plan.episode_id,
                tick=self._tick,
                text=text,
            )
        )
