"""`opentau ctl`: send a command to a run and wait for its acknowledgement."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import yaml

from opentau import control, events
from opentau.cli.compose import parser
from opentau.cli.connecting import add_connect, client_of
from opentau.control import LABEL, NOTE_DOWN, SAFE_OPTIONS, SET, VERBS, Argument, Command, LocalRunClient, RunClient, Verb
from opentau.errors import OptionError, RunError
from opentau.loop.run import is_running, obey_at_rest
from opentau.loop.steering import AT_REST
from opentau.runfold import RunFold

WAIT_S = 30.0
HOLDS_ON = (control.TAKE_OVER, control.JOG)
"""After these the lease is kept, as after any command while something is in hand: it expires, or the next command renews it."""

DESCRIPTION = """Steer a run: every command of the screen has its twin here. `opentau ctl COMMAND --help` teaches each.

One operator steers at a time: a command takes the lease where it is free and gives it back when it is done; the run's log
tells who holds it. stop, stop_robot and note need none. Each is obeyed once and told in the run's log (docs/steering.md)."""


def main(argv: Sequence[str]) -> int:
    """Send one command; every command of the screen has its twin here."""
    options = _arguments().parse_args(argv)
    command = Command(verb=options.verb, args=_args_of(options))
    with client_of(options) as (client, name):
        fold = RunFold()
        _take_in(client, fold)
        client.send(command)
        if isinstance(client, LocalRunClient) and command.verb in AT_REST and not is_running(client.run_dir):
            obey_at_rest(client.run_dir)
        told = "" if options.no_wait else _wait_for_acknowledgement(client, command, fold, name, wait_s=options.wait)
        if command.verb in HOLDS_ON or any(station.operator for station in fold.summary().stations):
            client.keep()
    print(f"{name}: {options.verb} {'sent' if options.no_wait else 'done'}{f': {told}' if told else ''}")
    return 0


def _arguments() -> argparse.ArgumentParser:
    arguments = parser("ctl", DESCRIPTION, takes_options=False)
    commands = arguments.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    for verb in VERBS.values():
        made = commands.add_parser(
            verb.name,
            help=verb.about,
            description=_describe(verb),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for argument in verb.arguments:
            _add(made, verb, argument)
        made.add_argument("run", nargs="?", help="run id; the newest when left out")
        made.add_argument("--no-wait", action="store_true", help="do not wait for the acknowledgement")
        made.add_argument("--wait", type=float, default=WAIT_S, metavar="S", help=f"how long to wait for it; {WAIT_S:g}")
        made.add_argument("--as", dest="operator", metavar="NAME", default="", help="under which name to steer; your account's")
        add_connect(made)
    return arguments


def _add(made: argparse.ArgumentParser, verb: Verb, argument: Argument) -> None:
    kind: Callable[[str], Any] = argument.kind if argument.kind in (int, float) else str
    is_named = not argument.is_needed or argument.name == "iteration"
    if verb.name == SET:
        if argument.name == "option":
            made.add_argument("assignment", metavar="OPTION=VALUE", help="the option and its new value")
    elif is_named:
        metavar = "N" if argument.kind is int else "X"
        made.add_argument(f"--{argument.name}", type=kind, required=argument.is_needed, metavar=metavar, help=argument.about)
    else:
        made.add_argument(argument.name, type=kind, choices=argument.choices or None, help=argument.about)


def _describe(verb: Verb) -> str:
    text = f"{verb.about[0].upper()}{verb.about[1:]}.\nTakes effect {verb.when}."
    text += "\nUnder the lease: one operator at a time." if verb.needs_lease else "\nNeeds no lease."
    if verb.name == SET:
        rows = "\n".join(f"  {option.name:<32} {option.about}" for option in SAFE_OPTIONS.values())
        text += f"\nOptions that may change between iterations:\n{rows}"
    elif verb.name == LABEL:
        text += "\nunknown takes back what was said; discard keeps the episode out of every training."
    elif verb.name == NOTE_DOWN:
        text += '\nExample: opentau ctl note "the light changed"'
    return text


def _args_of(options: argparse.Namespace) -> dict[str, Any]:
    if options.verb == SET:
        name, separator, value = options.assignment.partition("=")
        if not separator:
            raise OptionError(f"{options.assignment!r} sets nothing; write OPTION=VALUE, for example collect.episodes=80")
        return {"option": name, "value": yaml.safe_load(value)}
    given = {argument.name: getattr(options, argument.name) for argument in VERBS[options.verb].arguments}
    return {name: value for name, value in given.items() if value is not None}


def _take_in(client: RunClient, fold: RunFold) -> list[dict[str, Any]]:
    """Return what is new, and add it to what is known of the run."""
    new = client.new_events()
    for event in new:
        fold.update(event)
    return new


def _wait_for_acknowledgement(client: RunClient, command: Command, fold: RunFold, run_id: str, *, wait_s: float) -> str:
    """Return what the run said when it had obeyed; raises `RunError` where it refused or did not answer."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        for event in _take_in(client, fold):
            if event["kind"] != events.COMMAND or event.get("command_id") != command.command_id:
                continue
            if event["state"] == "refused":
                raise RunError(f"run {run_id} refuses {command.verb}: {event['text']}")
            if event["state"] in ("done", "repeated"):
                return str(event["text"])
        if command.verb in HOLDS_ON:
            client.renew()
        time.sleep(0.1)
    raise RunError(
        f"run {run_id} did not acknowledge {command.verb} within {wait_s:.0f} s. Is it running? The command waits in its inbox "
        "and is obeyed at the next safe moment; `opentau status` shows where it stands."
    )
