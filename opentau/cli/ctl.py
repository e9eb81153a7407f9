"""`opentau ctl`: send a command to a run and wait for its acknowledgement."""

from __future__ import annotations

import time
from collections.abc import Sequence

from opentau import control, events
from opentau.cli.compose import parser
from opentau.cli.connecting import add_connect, client_of
from opentau.control import Command, RunClient
from opentau.errors import RunError

WAIT_S = 30.0


def main(argv: Sequence[str]) -> int:
    """Send one command; every command of the screen has its twin here."""
    arguments = parser(
        "ctl",
        "Steer a run: pause, resume, stop (after the current stage), promote or roll back the candidate of an iteration.",
        takes_options=False,
    )
    arguments.add_argument("verb", choices=control.VERBS)
    arguments.add_argument("run", nargs="?", help="run id; the newest when left out")
    arguments.add_argument("--iteration", type=int, help="promote, rollback: the iteration whose gate is overridden")
    arguments.add_argument("--no-wait", action="store_true", help="do not wait for the acknowledgement")
    add_connect(arguments)
    options = arguments.parse_args(argv)
    if options.verb in (control.PROMOTE, control.ROLLBACK) and options.iteration is None:
        arguments.error(f"{options.verb} needs --iteration N, the iteration whose gate it overrides")
    args = {"iteration": options.iteration} if options.iteration is not None else {}
    with client_of(options) as (client, name):
        client.new_events()
        client.send(Command(verb=options.verb, args=args))
        if not options.no_wait:
            _wait_for_acknowledgement(client, options.verb, name)
    print(f"{name}: {options.verb} {'sent' if options.no_wait else 'done'}")
    return 0


def _wait_for_acknowledgement(client: RunClient, verb: str, run_id: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        for event in client.new_events():
            if event["kind"] == events.COMMAND and event["verb"] == verb and event["state"] != "received":
                return
        time.sleep(0.1)
    raise RunError(
        f"run {run_id} did not acknowledge {verb} within {WAIT_S:.0f} s. Is it running? The command waits in its inbox "
        "and is obeyed at the next safe moment; `opentau status` shows where it stands."
    )
