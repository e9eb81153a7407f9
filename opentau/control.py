"""The control channel of a run: what can be asked of it, how it is asked, and where the answers appear."""

from __future__ import annotations

import getpass
import itertools
import json
import os
import shlex
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, cast

from opentau.errors import OptionError, near_matches
from opentau.events import EventReader
from opentau.lease import LEASE_S, Lease

INBOX_FOLDER = "control"
LIVE_FOLDER = "live"
"""Holds what stations in hand show, for screens: STATION/shown.json and a picture of every camera, replaced as they come."""

PAUSE, RESUME, STOP = "pause", "resume", "stop"
PROMOTE, ROLLBACK, PIN, UNPIN, SET = "promote", "rollback", "pin", "unpin", "set"
LABEL, NOTE_DOWN = "label", "note"
TAKE_OVER, JOG, HAND_BACK = "take_over", "jog", "hand_back"
STOP_ROBOT, CLEAR = "stop_robot", "clear"

SUCCESS, FAILURE, UNKNOWN, DISCARD = "success", "failure", "unknown", "discard"
OUTCOMES = (SUCCESS, FAILURE, UNKNOWN, DISCARD)
"""What a person may say of an episode: `unknown` takes back what was said, `discard` keeps it out of every training."""
JOGGED = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
"""Directions of a jog, as parts of the largest action of one control step."""
MAX_JOG_TICKS = 200

Value = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One argument of a command."""

    name: str
    about: str
    kind: type = str
    """str, int or float; `object` takes any of them."""
    choices: tuple[str, ...] = ()
    """What it may be; empty for anything."""
    limits: tuple[float, float] | None = None
    """Smallest and largest number."""
    is_needed: bool = True

    def checked(self, value: Any, *, verb: str) -> Value:
        """Return the value in its own type; raises `OptionError`."""
        where = f"{self.name} of {verb}"
        if self.kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        is_known = isinstance(value, str | int | float) and (self.kind is object or isinstance(value, self.kind))
        if not is_known or (isinstance(value, bool) and self.kind is not object):
            raise OptionError(f"{where} is {value!r}; it must be of type {self.kind.__name__}: {self.about}")
        if self.choices and value not in self.choices:
            raise OptionError(f"{where} is {value!r}.{near_matches(str(value), self.choices)}")
        if self.limits is not None and not self.limits[0] <= float(value) <= self.limits[1]:
            raise OptionError(f"{where} is {value}; it lies between {self.limits[0]:g} and {self.limits[1]:g}")
        if isinstance(value, str) and not value.strip():
            raise OptionError(f"{where} is empty; give {self.about}")
        return cast(Value, value)


SAFE_OPTIONS: dict[str, Argument] = {
    option.name: option
    for option in (
        Argument(name="collect.episodes", about="autonomous episodes per task", kind=int, limits=(1, 1e6)),
        Argument(name="collect.supervised_share", about="share of them that a supervisor watches", kind=float, limits=(0, 0.5)),
        Argument(name="update.num_updates", about="updates of the policy", kind=int, limits=(1, 1e8)),
        Argument(name="update.learning_rate", about="of the policy's update", kind=float, limits=(1e-9, 1)),
        Argument(name="batch.human_share", about="of human frames in its batches", kind=float, limits=(0, 1)),
        Argument(name="improve.batch_positive_share", about="of positive frames", kind=float, limits=(0.001, 0.999)),
        Argument(name="rollout.num_stations", about="simulators side by side", kind=int, limits=(0, 4096)),
    )
}
"""Options that may change between iterations. How policies are asked and judged is not among them: scores before and after
would not be of one kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One thing that a run can be asked to do."""

    name: str
    about: str
    """What it does."""
    when: str
    """When it takes effect."""
    arguments: tuple[Argument, ...] = ()
    needs_lease: bool = True
    """Whether only the operator who steers may ask for it."""


_STATION = Argument(name="station", about="a station as the run names it, for example station-0-1")
_ITERATION = Argument(name="iteration", about="the iteration whose candidate is meant", kind=int, limits=(1, 10_000))
_STAGE = Argument(name="stage", about="the stage that made it, for example update-1 or sft-0")
_JOGS = tuple(
    Argument(name=name, about="part of the largest action, -1 to 1", kind=float, limits=(-1.0, 1.0), is_needed=False)
    for name in JOGGED[:-1]
)
_GRIPPER = Argument(
    name="gripper",
    about="1 closes, -1 opens; left out or 0 it stays as it was last commanded",
    kind=float,
    limits=(-1.0, 1.0),
    is_needed=False,
)
_TICKS = Argument(name="ticks", about="control steps to go on so; 1", kind=int, limits=(1, MAX_JOG_TICKS), is_needed=False)

BETWEEN_EPISODES = "after the episode or update at hand"

VERBS: dict[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb(name=PAUSE, about="hold the run until resume or stop", when=BETWEEN_EPISODES),
        Verb(name=RESUME, about="go on after a pause", when="at once"),
        Verb(
            name=STOP,
            about="end the run before its next stage; the same command resumes it",
            when="after the current stage",
            needs_lease=False,
        ),
        Verb(
            name=PROMOTE,
            about="let the candidate of an iteration stand, whatever its gate says",
            when="with the verdict of that gate; after it, from the next iteration on",
            arguments=(_ITERATION,),
        ),
        Verb(
            name=ROLLBACK,
            about="let the policy stand that stood before the candidate of an iteration",
            when="with the verdict of that gate; after it, from the next iteration on",
            arguments=(_ITERATION,),
        ),
        Verb(name=PIN, about="keep a checkpoint from being pruned", when=BETWEEN_EPISODES, arguments=(_STAGE,)),
        Verb(name=UNPIN, about="let a pinned checkpoint be pruned again", when=BETWEEN_EPISODES, arguments=(_STAGE,)),
        Verb(
            name=SET,
            about="change an option that may change between iterations",
            when="from the next iteration on",
            arguments=(
                Argument(name="option", about="one of those below", choices=tuple(SAFE_OPTIONS)),
                Argument(name="value", about="its new value", kind=object),
            ),
        ),
        Verb(
            name=LABEL,
            about="say what came of an episode; recordings stay as they are",
            when="for everything learned after the next collection",
            arguments=(
                Argument(
                    name="target",
                    about="an episode's id, for example collect-1/000003, or a station: the one in hand or last played",
                ),
                Argument(name="outcome", about="what came of it", choices=OUTCOMES),
            ),
        ),
        Verb(
            name=NOTE_DOWN,
            about="write a line into the run's log",
            when=BETWEEN_EPISODES,
            arguments=(Argument(name="text", about="what to write"),),
            needs_lease=False,
        ),
        Verb(
            name=TAKE_OVER,
            about="take a simulator's episode in hand; it waits for your jogs",
            when="in its next control step, or in its next episode of a policy that is recorded",
            arguments=(_STATION,),
        ),
        Verb(
            name=JOG,
            about="move what you have in hand",
            when="in the next control step",
            arguments=(_STATION, *_JOGS, _GRIPPER, _TICKS),
        ),
        Verb(
            name=HAND_BACK,
            about="give the episode back to its policy",
            when="after the jogs sent before",
            arguments=(_STATION,),
        ),
        Verb(
            name=STOP_ROBOT,
            about="stop what a station moves, at once; it stays stopped",
            when="in the next control step, within a tenth of a second",
            arguments=(_STATION,),
            needs_lease=False,
        ),
        Verb(
            name=CLEAR,
            about="let a stopped simulator go on; a robot is re-armed on the spot only",
            when="in the next control step",
            arguments=(_STATION,),
        ),
    )
}
"""Every command by name, in the order in which people meet them."""

STATION_VERBS = (TAKE_OVER, JOG, HAND_BACK, STOP_ROBOT, CLEAR)
"""Commands that stations carry out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One request to a run; its id makes it idempotent. Raises `OptionError` for what the run does not know."""

    verb: str
    args: Mapping[str, Any] = field(default_factory=dict)
    command_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    operator: str = ""
    """Who asks; filled by the client or the desk that passes it on."""

    def __post_init__(self) -> None:
        if self.verb not in VERBS:
            raise OptionError(f"unknown command {self.verb!r}.{near_matches(self.verb, VERBS)}")
        object.__setattr__(self, "args", _checked(VERBS[self.verb], self.args))

    def twin(self, run: str = "") -> str:
        """Return the words that do the same on the command line."""
        first, named = _words(self)
        return shlex.join(["opentau", "ctl", self.verb, *first, *([run] if run else []), *named])


def _checked(verb: Verb, args: Mapping[str, Any]) -> dict[str, Value]:
    known = {argument.name: argument for argument in verb.arguments}
    for name in args:
        if name not in known:
            takes = near_matches(name, known) if known else " It takes none."
            raise OptionError(f"{verb.name} takes no argument {name!r}.{takes}")
    for argument in verb.arguments:
        if argument.is_needed and argument.name not in args:
            raise OptionError(f"{verb.name} needs {argument.name}: {argument.about}")
    checked = {name: known[name].checked(value, verb=verb.name) for name, value in args.items()}
    if verb.name == SET:
        checked["value"] = SAFE_OPTIONS[str(checked["option"])].checked(checked["value"], verb=SET)
    return checked


def _words(command: Command) -> tuple[list[str], list[str]]:
    """Return the arguments of a command as its command line takes them: by place, then by name."""
    args = dict(command.args)
    if command.verb == SET:
        return [f"{args['option']}={args['value']}"], []
    named = {*JOGGED, "ticks", "iteration"}
    first = [str(value) for name, value in args.items() if name not in named]
    return first, [f"--{name}={value}" for name, value in args.items() if name in named]


class RunClient(Protocol):
    """How a screen or a script follows and steers a run, here or on another host."""

    def new_events(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Return the events not returned before, in time order; with `limit` about so many of the oldest, [] after the last."""
        ...

    def send(self, command: Command) -> None:
        """Pass a command on, under the lease where it needs one; raises `LeaseError` while another operator holds it."""
        ...

    def renew(self) -> None:
        """Hold the lease for longer; call it every few seconds while something is in hand.

        One that another client of the same operator took meanwhile is taken again; raises `LeaseError` while another operator
        holds it.
        """
        ...

    def release(self) -> None:
        """Give the lease back, if it is held; what is in hand goes back to its policy."""
        ...

    def keep(self) -> None:
        """Leave the lease as it is when the client ends: it runs out by itself, or this operator comes again before."""
        ...


class LocalRunClient:
    """Follow and steer a run through its directory."""

    def __init__(self, run_dir: Path, *, operator: str = "", lease_s: float = LEASE_S) -> None:
        """`operator`: under which name to steer; '' for the account's. `lease_s`: how long a lease lasts unrenewed."""
        self.run_dir = run_dir
        self.reader = EventReader(run_dir)
        self._stream: Iterator[dict[str, Any]] | None = None
        self.operator = operator or local_operator()
        self._lease = Lease(run_dir, lease_s=lease_s)
        self._lease_id = ""

    def __enter__(self) -> LocalRunClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()

    def new_events(self, limit: int | None = None) -> list[dict[str, Any]]:
        if limit is None and self._stream is None:
            return self.reader.read_new()
        self._stream = self._stream or self.reader.stream()
        events = list(itertools.islice(self._stream, limit))
        if limit is None or len(events) < limit:
            self._stream = None
        return events

    def send(self, command: Command) -> None:
        if VERBS[command.verb].needs_lease:
            self._lease_id = self._lease.hold(self.operator, self._lease_id)
        post(self.run_dir, command, operator=self.operator)

    def renew(self) -> None:
        self._lease_id = self._lease.hold(self.operator, self._lease_id)

    def release(self) -> None:
        if self._lease_id:
            self._lease.drop(self.operator, self._lease_id)
            self._lease_id = ""

    def keep(self) -> None:
        self._lease_id = ""


def local_operator() -> str:
    """Return what somebody at this machine is called: account@host."""
    try:
        account = getpass.getuser()
    except (OSError, KeyError):  # an account without a name
        account = str(os.getuid())
    return f"{account}@{socket.gethostname()}"


def post(run_dir: Path, command: Command, *, operator: str) -> None:
    """Put a command into a run's inbox."""
    inbox = run_dir / INBOX_FOLDER
    inbox.mkdir(parents=True, exist_ok=True)
    name = f"{time.time_ns():020d}-{command.command_id}"  # in the order in which they were sent
    partial = inbox / f"{name}.partial"
    plain = {"verb": command.verb, "args": dict(command.args), "command_id": command.command_id, "operator": operator}
    partial.write_text(json.dumps(plain))
    os.replace(partial, inbox / f"{name}.json")


def waiting_commands(
    run_dir: Path,
    *,
    is_left: Callable[[Command], bool] = lambda command: False,
    on_bad: Callable[[str], None] = lambda text: None,
) -> Iterator[Command]:
    """Yield the commands in a run's inbox, oldest first; each is removed once whoever obeys it asks for the next.

    A kill in between makes it come again. Those that `is_left` names stay. What is no command is removed and told to `on_bad`.
    """
    for path in sorted((run_dir / INBOX_FOLDER).glob("*.json")):
        try:
            command = Command(**json.loads(path.read_text()))
        except (ValueError, TypeError, OptionError) as error:
            on_bad(str(error))
        else:
            if is_left(command):
                continue
            yield command
        path.unlink(missing_ok=True)


def take_commands(run_dir: Path) -> list[Command]:
    """Return and remove the commands waiting in a run's inbox, oldest first."""
    return list(waiting_commands(run_dir))
