"""What operators ask of a session's stations: passed on to them, their answers told as events, the lease watched."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from opentau.control import HAND_BACK, JOGGED, Command
from opentau.events import TAKEOVER
from robot_bridge.wire.images import CodedImage
from robot_bridge.wire.messages import Payload, Shown, Steer, Steered

Tell = Callable[..., None]
"""Tells what came of a command: the command, its state, and `text` in words."""

_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class InHand:
    """An episode that somebody has in hand."""

    operator: str
    episode_id: str


class StationDesk:
    """Between the run, whose thread passes commands on, and the server's, which brings the answers."""

    def __init__(
        self, *, session: str, steer: Callable[[str, Steer], None], emit: Callable[..., None], live_dir: Path | None = None
    ) -> None:
        """`live_dir`: where what stations show lies for the screens of this machine; None for nowhere."""
        self._session = session
        self._steer = steer
        self._emit = emit
        self._live_dir = live_dir
        self._lock = threading.Lock()
        self._open: dict[str, tuple[Command, str, Tell]] = {}
        """Command id to what waits for its answer, from which station, and who tells it."""
        self._in_hand: dict[str, InHand] = {}
        self._played: dict[str, str] = {}
        """Station to the episode that it delivered last."""

    @property
    def is_busy(self) -> bool:
        """Whether somebody waits for something: an answer, or has an episode in hand."""
        return bool(self._open or self._in_hand)

    def ask(self, command: Command, *, tell: Tell) -> None:
        """Pass a command on; `tell` is called once, from another thread, when its fate is known."""
        args = command.args
        station_id = str(args["station"])
        with self._lock:
            self._open[command.command_id] = (command, station_id, tell)
        message = Steer(
            session=self._session,
            verb=command.verb,
            command_id=command.command_id,
            operator=command.operator,
            rates={name: float(args[name]) for name in JOGGED if name in args},
            ticks=int(args.get("ticks", 1)),
        )
        self._steer(station_id, message)

    def note_holder(self, holder: str) -> None:
        """Have everything handed back that others hold than the one with the lease: who went away, or lost it."""
        with self._lock:
            orphans = [(station_id, held.operator) for station_id, held in self._in_hand.items() if held.operator != holder]
        for station_id, operator in orphans:
            text = f"the lease of {operator} is over"
            self._steer(station_id, Steer(session=self._session, verb=HAND_BACK, text=text))

    def answered(self, station_id: str, steered: Steered) -> None:
        """Take a station's answer in; called from the server's thread."""
        told = None
        with self._lock:
            if steered.state in ("done", "refused"):
                told = self._open.pop(steered.command_id, None)
            elif steered.state == "began":
                self._in_hand[station_id] = InHand(operator=steered.operator, episode_id=steered.episode_id)
            else:
                self._in_hand.pop(station_id, None)
        if told is not None:
            command, _, tell = told
            where = {"tick": steered.tick, "episode_id": steered.episode_id} if steered.episode_id else {}
            tell(command, steered.state, text=steered.text, **where)
        elif steered.state in ("began", "ended"):
            self._emit(
                TAKEOVER,
                station=station_id,
                episode_id=steered.episode_id,
                operator=steered.operator,
                state=steered.state,
                tick=steered.tick,
                text=steered.text,
            )

    def shown(self, station_id: str, shown: Shown, arrays: Mapping[str, Payload]) -> None:
        """Lay what a station shows where the screens of this machine find it."""
        if self._live_dir is None or _FILE_NAME.fullmatch(station_id) is None:
            return
        folder = self._live_dir / station_id
        folder.mkdir(parents=True, exist_ok=True)
        facts: dict[str, Any] = {"episode_id": shown.episode_id, "tick": shown.tick, "cameras": []}
        for name, array in arrays.items():
            camera = name.removeprefix("images.")
            if isinstance(array, CodedImage) and _FILE_NAME.fullmatch(camera):
                _replace(folder / f"{camera}.jpg", bytes(array.data))
                facts["cameras"].append(camera)
            elif name == "state" and not isinstance(array, CodedImage):
                facts["state"] = np.asarray(array, np.float64).ravel().tolist()
        _replace(folder / "shown.json", json.dumps(facts).encode())

    def note_played(self, station_id: str, episode_id: str) -> None:
        """Remember what a station delivered last."""
        self._played[station_id] = episode_id

    def episode_of(self, station_id: str) -> str | None:
        """Return what somebody has in hand at a station, else what it delivered last; None before it has."""
        held = self._in_hand.get(station_id)
        return self._played.get(station_id) if held is None else held.episode_id

    def departed(self, station_id: str, why: str) -> None:
        """Tell everybody who waits for a station that it is gone; its episode is played again by another."""
        with self._lock:
            waiting = [waiting for waiting in self._open.values() if waiting[1] == station_id]
            for command, _, _ in waiting:
                del self._open[command.command_id]
            held = self._in_hand.pop(station_id, None)
        for command, _, tell in waiting:
            tell(command, "refused", text=f"{station_id} is gone: {why}")
        if held is not None:
            self._emit(
                TAKEOVER,
                station=station_id,
                episode_id=held.episode_id,
                operator=held.operator,
                state="ended",
                tick=0,
                text=f"{station_id} is gone: {why}; the episode is played again",
            )

    def close(self) -> None:
        """Tell everybody who still waits that there are no stations any more."""
        for station_id in {station_id for _, station_id, _ in self._open.values()} | set(self._in_hand):
            self.departed(station_id, "the stage is over")


def _replace(path: Path, data: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    os.replace(partial, path)
