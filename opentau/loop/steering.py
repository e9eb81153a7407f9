"""Obeying what people ask of a run: each command once, at a moment when nothing is half done, told as events."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opentau import control, events
from opentau.checkpoint import is_complete
from opentau.control import Command, waiting_commands
from opentau.errors import OpenTauError, OptionError, RunError, near_matches
from opentau.events import EVENTS_FOLDER, EventLog
from opentau.lease import Lease
from opentau.loop.decisions import Decision, Decisions
from opentau.rollout.desk import StationDesk

STAGES_FOLDER = "stages"
PAUSED_POLL_S = 0.1
RECORDED_STAGES = ("collect", "demonstrations")
"""The work of stages whose episodes are learned from, and labelled."""
NEEDS_PLACE = (control.PROMOTE, control.ROLLBACK, control.SET, control.LABEL)
"""Commands that hold from an iteration on: a resumed run has to be back where it was before it can say from which."""
AT_REST = (control.PIN, control.UNPIN, control.NOTE_DOWN)
"""Commands that need no run that goes on."""


@dataclass(slots=True)
class Steering:
    """The run's half of the control channel."""

    directory: Path
    log: EventLog
    stations: StationDesk | None = None
    """Where stations are asked, while some play."""
    check_options: Callable[[Mapping[str, Any]], object] | None = None
    """Raises `OptionError` for changed options that do not go together; None where there are none to change."""
    last_iteration: int = 0
    """Of the plan; after its gate there is nothing left to decide."""
    iteration: int = 0
    has_collected: bool = False
    """Whether what this iteration learns from is fixed."""
    has_judged: bool = False
    """Whether its gate is over."""
    is_back: bool = False
    """Whether this run has come to work that was not done before: it knows its place."""
    is_stopping: bool = False
    decisions: Decisions = field(init=False)
    stage_directories: dict[str, str] = field(default_factory=dict)
    """Every stage begun so far and its directory's name."""
    _is_paused: bool = False
    _holder: str = ""
    _obeyed: set[str] | None = None
    _lease: Lease = field(init=False)

    def __post_init__(self) -> None:
        self.decisions = Decisions(self.directory)
        self._lease = Lease(self.directory)

    def obey(self) -> None:
        """Carry out what waits; a pause holds here until resume or stop, and stations are steered meanwhile."""
        self._take()
        while self._is_paused and not self.is_stopping:
            time.sleep(PAUSED_POLL_S)
            self._take()
        self._is_paused = False

    def obey_at_rest(self) -> None:
        """Carry out what needs no run that goes on; all else waits for the next one."""
        self._take(only=AT_REST)

    def begin(self, iteration: int) -> None:
        """Begin an iteration; what people decide from now on holds from the next one."""
        self.iteration, self.has_collected, self.has_judged = iteration, False, False

    def come_back(self) -> None:
        """Obey what waited for the run to be where it had been."""
        if not self.is_back:
            self.is_back = True
            self.obey()

    def _take(self, *, only: tuple[str, ...] | None = None) -> None:
        if only is None:
            self._watch_lease()

        def is_left(command: Command) -> bool:
            is_early = command.verb in NEEDS_PLACE and not self.is_back
            return is_early if only is None else command.verb not in only

        for command in waiting_commands(self.directory, is_left=is_left, on_bad=self._refuse_file):
            if self._is_repeated(command):
                self._tell(command, "repeated", text="obeyed before; it is not done twice")
                continue
            try:
                self._obey_one(command)
            except OpenTauError as error:
                self._tell(command, "refused", text=str(error))

    def _obey_one(self, command: Command) -> None:
        verb = command.verb
        if verb != control.JOG:
            self._tell(command, "received")
        if verb in control.STATION_VERBS:
            self._ask_station(command)
            return
        said: dict[str, Any] = {}
        if verb in (control.PAUSE, control.RESUME):
            self._is_paused = verb == control.PAUSE
        elif verb == control.STOP:
            self.is_stopping = True
        elif verb == control.NOTE_DOWN:
            self.log.emit(events.NOTE, level="info", text=f"{command.operator or 'somebody'}: {command.args['text']}")
        elif verb in (control.PROMOTE, control.ROLLBACK):
            said = self._decide_gate(command)
        elif verb == control.SET:
            said = self._set(command)
        elif verb == control.LABEL:
            said = self._label(command)
        else:
            said = self._pin(command)
        self._tell(command, "done", **said)

    def _ask_station(self, command: Command) -> None:
        if self.stations is None:
            raise RunError("no station plays now: the run trains or judges, and a robot holds its pose between stages")
        self.stations.ask(command, tell=self._tell)

    def _decide_gate(self, command: Command) -> dict[str, Any]:
        """Decide a gate with its verdict where that is still to come, else from the next iteration on."""
        of = command.args["iteration"]
        if of > self.last_iteration:
            raise OptionError(f"iteration is {of}; this run has the iterations 1 to {self.last_iteration}")
        is_open = of > self.iteration or (of == self.iteration and not self.has_judged)
        if not is_open and self.iteration > self.last_iteration:
            raise RunError("the final scores are at hand; send it again once they are there, and start the same command again")
        since = of if is_open else self.iteration + 1
        self._decide(command, command.args, since)
        return {"text": f"with the verdict of gate {of}" if is_open else f"from iteration {since} on"}

    def _set(self, command: Command) -> dict[str, Any]:
        since, option, value = self.iteration + 1, command.args["option"], command.args["value"]
        if self.check_options is None or since > self.last_iteration:
            raise RunError(f"no iteration is left that {option} could change; the last one is {self.last_iteration}")
        self.check_options({**self.decisions.options(since), option: value})
        self._decide(command, command.args, since)
        return {"text": f"from iteration {since} on", "iteration": since}

    def _label(self, command: Command) -> dict[str, Any]:
        target, outcome = command.args["target"], command.args["outcome"]
        found = self.stations.episode_of(target) if self.stations is not None else None
        episode_id = found or target
        stage = self._stage_of(episode_id)
        since = self.iteration + 1 if self.has_collected or not self.iteration else self.iteration
        args = {"episode_id": episode_id, "outcome": outcome, "directory": self.stage_directories[stage]}
        self._decide(command, args, since)
        is_late = since > self.last_iteration
        text = f"{episode_id}: {outcome}, " + (
            "after the last learning" if is_late else f"from the learning of iteration {since} on"
        )
        return {"text": text, "episode_id": episode_id}

    def _stage_of(self, episode_id: str) -> str:
        """Return the stage that recorded an episode; raises `OptionError` where none of this run has."""
        name, separator, number = episode_id.rpartition("/")
        stage = f"{name}-0" if name == "demonstrations" else name
        if not separator or not number.isdigit():
            raise OptionError(f"{episode_id!r} is no episode, and no station that played one; write collect-1/000003")
        if stage.rpartition("-")[0] not in RECORDED_STAGES:
            raise OptionError(f"{episode_id} is scored, not learned from; label episodes of {' and '.join(RECORDED_STAGES)}")
        if stage not in self.stage_directories:
            raise OptionError(f"this run has not recorded {stage} yet.{near_matches(stage, self.stage_directories)}")
        return stage

    def _pin(self, command: Command) -> dict[str, Any]:
        stage = command.args["stage"]
        if command.verb == control.UNPIN:
            if stage not in self.decisions.pinned():
                raise OptionError(f"{stage} is not pinned.{near_matches(stage, self.decisions.pinned())}")
            directory = self.decisions.pinned()[stage]
        else:
            found = self._complete_stages()
            if stage not in found:
                raise OptionError(f"this run has no complete stage {stage!r}.{near_matches(stage, found)}")
            directory = found[stage]
        self._decide(command, {"stage": stage, "directory": directory}, self.iteration)
        return {"text": directory}

    def _complete_stages(self) -> dict[str, str]:
        """Return stage to directory: of this run as it stands, else the newest that lies there."""
        paths = sorted((self.directory / STAGES_FOLDER).glob("*/"), key=lambda path: path.stat().st_mtime)
        there = {path.name.rpartition("-")[0]: path.name for path in paths if is_complete(path)}
        return there | {stage: name for stage, name in self.stage_directories.items() if stage in there}

    def _decide(self, command: Command, args: Mapping[str, Any], iteration: int) -> None:
        self.decisions.add(
            Decision(
                verb=command.verb,
                args=dict(args),
                iteration=iteration,
                command_id=command.command_id,
                operator=command.operator,
            )
        )

    def _watch_lease(self) -> None:
        """Tell who steers when that has changed, and have stations of others handed back."""
        holder = self._lease.held().holder
        if holder != self._holder:
            why = "" if holder else f"{self._holder} has given the lease back, or it ran out"
            self._holder = holder
            self.log.emit(events.LEASE, operator=holder, text=why)
        if self.stations is not None:
            self.stations.note_holder(holder)

    def _is_repeated(self, command: Command) -> bool:
        if self._obeyed is None:
            self._obeyed = _obeyed_before(self.directory)
        is_repeated = command.command_id in self._obeyed
        self._obeyed.add(command.command_id)
        return is_repeated

    def _refuse_file(self, text: str) -> None:
        self.log.emit(events.NOTE, level="warning", text=f"a command was refused: {text}")

    def _tell(self, command: Command, state: str, *, text: str = "", **said: Any) -> None:
        self.log.emit(
            events.COMMAND,
            verb=command.verb,
            args=dict(command.args),
            state=state,
            text=text,
            command_id=command.command_id,
            operator=command.operator,
            **said,
        )


def _obeyed_before(directory: Path) -> set[str]:
    """Return the ids of the commands that earlier processes of this run carried out or refused."""
    obeyed = set()
    for path in (directory / EVENTS_FOLDER).glob("*.jsonl"):
        with open(path, "rb") as file:
            for line in file:
                if b'"kind": "command"' in line:
                    event = _parse(line)
                    if event.get("state") in ("done", "refused"):
                        obeyed.add(event.get("command_id", ""))
    return obeyed


def _parse(line: bytes) -> dict[str, Any]:
    try:
        return dict(json.loads(line))
    except ValueError:  # torn by a kill
        return {}
