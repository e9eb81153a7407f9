"""Runs on other machines: `--listen` lets them be followed and steered, `--connect` follows and steers them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from opentau.cli.runs_folder import find_run
from opentau.control import LocalRunClient, RunClient
from opentau.errors import OptionError
from opentau.events import EventLog
from robot_bridge.security.keys import ClientCredentials, keys_dir, load_pair, secret_path
from robot_bridge.security.trust import Role, TrustList
from robot_bridge.viewing.client import RemoteRunClient
from robot_bridge.viewing.desk import viewing
from robot_bridge.wire.link import INSECURE


def add_keys(arguments: argparse.ArgumentParser) -> None:
    """Add the options of whatever listens."""
    arguments.add_argument("--keys", metavar="NAME", default="", help="this machine's key (opentau keys new NAME)")
    arguments.add_argument(
        "--insecure",
        metavar="SENTENCE",
        default="",
        help=f"listen on a network without keys; must be the sentence '{INSECURE}'",
    )


def add_connect(arguments: argparse.ArgumentParser) -> None:
    """Add the options of whatever follows a run."""
    arguments.add_argument("--connect", metavar="HOST:PORT", help="a run on another machine, started with --listen there")
    arguments.add_argument("--keys", metavar="NAME", default="", help="with --connect: this machine's key")
    arguments.add_argument(
        "--server", metavar="NAME", default="", help="with --connect: the run's key, trusted here with --role policy"
    )


@contextmanager
def client_of(options: argparse.Namespace) -> Iterator[tuple[RunClient, str]]:
    """Yield what follows and steers the run that is meant, here or elsewhere, and the run's name for people."""
    if options.connect is None:
        run = find_run(options.run)
        with LocalRunClient(run, operator=getattr(options, "operator", "")) as client:
            yield client, run.name
        return
    if options.run is not None:
        raise OptionError(f"--connect names the run already; leave {options.run!r}")
    if bool(options.keys) != bool(options.server):
        raise OptionError("--keys and --server go together: your own key and the run's")
    host, port = _host_and_port(options.connect)
    with RemoteRunClient(f"tcp://{host}:{port}", credentials=_credentials(options.keys, options.server)) as client:
        yield client, options.connect


@contextmanager
def listening(run_dir: Path, options: argparse.Namespace, log: EventLog) -> Iterator[None]:
    """Let others follow and steer a run, where `--listen` asks for it."""
    if options.listen is None:
        yield
        return
    host, port = _host_and_port(options.listen)
    pair = load_pair(secret_path(options.keys)) if options.keys else None
    with viewing(run_dir, host=host, port=port, log=log, pair=pair, insecure=options.insecure) as endpoint:
        print(f"follow this run with: opentau tui --connect {endpoint.removeprefix('tcp://')}", flush=True)
        yield


def _credentials(own: str, server: str) -> ClientCredentials | None:
    if not own:
        return None
    public = TrustList(keys_dir()).named(server, Role.POLICY).public
    return ClientCredentials(pair=load_pair(secret_path(own)), server_public=public)


def _host_and_port(text: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isdigit() or int(port) > 65535:
        raise OptionError(f"{text!r} is no address; write HOST:PORT, for example 127.0.0.1:5600")
    return host, int(port)
