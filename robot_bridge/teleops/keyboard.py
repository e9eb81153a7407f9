"""Teleoperation from the terminal that the station runs in (Linux and macOS)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

from opentau.errors import RobotError
from opentau.types import Interface, Outcome
from robot_bridge.teleops.jogging import Jog
from robot_bridge.teleops.terminal import Terminal, own_terminal

UP, DOWN = "qwertyui", "asdfghjk"
"""A key above the other moves one dimension up and down, in the order of the action's dimensions."""
HAND_BACK, STOP, REARM = "\n", " ", "!"
VERDICTS = {"+": Outcome.SUCCESS, "-": Outcome.FAILURE, "x": Outcome.ABORTED}

MOVES_S = 0.12
"""How long one press moves: a little longer than the pause between two repeats of a held key."""


class KeyboardTeleop:
    """Jog a robot by keys: q and a move the first dimension up and down, w and s the second, and so on.

    A terminal does not tell when a key is let go. The human is in control from the first such key until none has come for
    `hold_s`, or until Enter; "+", "-" and "x" say that the episode succeeded, failed, or is to be thrown away. The space bar
    stops the robot, and "!" lets it move again.
    """

    def __init__(
        self,
        *,
        interface: Interface,
        speed: float | None = None,
        speeds: Mapping[str, float] | None = None,
        hold_s: float = 2.0,
        terminal: Terminal | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`terminal`: None for the one that the program was started in."""
        num_dims = len(interface.action_names)
        if num_dims > len(UP):
            raise RobotError(f"the keyboard jogs at most {len(UP)} dimensions, this robot has {num_dims}; use another device")
        self._jog = Jog(interface=interface, speed=speed, speeds=speeds)
        self._rates = {key: (dim, 1.0) for dim, key in enumerate(UP[:num_dims])}
        self._rates |= {key: (dim, -1.0) for dim, key in enumerate(DOWN[:num_dims])}
        self._hold_s = hold_s
        self._terminal = terminal or own_terminal()
        self._now = now
        self._known = {*self._rates, HAND_BACK, STOP, REARM, *VERDICTS}
        self._pressed_at = np.full(num_dims, -np.inf)
        self._rate_A = np.zeros(num_dims)
        self._is_engaged = False
        self._verdict: Outcome | None = None
        self._wants_stop = self._wants_rearm = False

    def connect(self) -> None:
        """Read keys from now on; raises `RobotError` where there is no terminal."""
        self._terminal.open()

    def wants_control(self) -> bool:
        self._read()
        if self._is_engaged and self._now() - self._pressed_at.max() > self._hold_s:
            self._release()
        return self._is_engaged

    def act(self, state: np.ndarray) -> np.ndarray:
        self._read()
        is_moving = self._now() - self._pressed_at <= MOVES_S
        return self._jog.act(state, rate_A=np.where(is_moving, self._rate_A, 0.0))

    def pose(self) -> np.ndarray | None:
        return None  # keys have no pose: a takeover starts where the robot is

    def verdict(self) -> Outcome | None:
        self._read()
        verdict, self._verdict = self._verdict, None
        return verdict

    def wants_stop(self) -> bool:
        """Return whether the stop was pressed since the last call."""
        self._read()
        wanted, self._wants_stop = self._wants_stop, False
        return wanted

    def wants_rearm(self) -> bool:
        """Return whether the stop was released since the last call."""
        self._read()
        wanted, self._wants_rearm = self._wants_rearm, False
        return wanted

    def close(self) -> None:
        self._terminal.close()

    def _read(self) -> None:
        for key in self._terminal.take(self._known):
            self._press(key)

    def _press(self, key: str) -> None:
        if key in self._rates:
            dim, rate = self._rates[key]
            self._pressed_at[dim], self._rate_A[dim] = self._now(), rate
            self._is_engaged = True
        elif key == HAND_BACK:
            self._release()
        elif key == STOP:
            self._wants_stop = True
        elif key == REARM:
            self._wants_rearm = True
        elif key in VERDICTS:
            self._verdict = VERDICTS[key]

    def _release(self) -> None:
        self._is_engaged = False
        self._pressed_at[:] = -np.inf
        self._jog.start()
