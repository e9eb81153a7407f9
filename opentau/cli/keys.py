"""`opentau keys`: make this machine's key, and say whose keys may come in which role."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from opentau.cli.command_table import run_command
from opentau.cli.compose import parser
from robot_bridge.security.keys import keys_dir, load_public, make_pair, save_pair
from robot_bridge.security.trust import Role, TrustedKey, TrustList

COMMANDS: dict[str, tuple[str, str]] = {
    "new": ("opentau.cli.keys:new", "make a key pair for this machine"),
    "trust": ("opentau.cli.keys:trust", "let the holder of a public key in, as robot, policy, operator or viewer"),
    "list": ("opentau.cli.keys:show", "show this machine's keys and whom it trusts"),
    "revoke": ("opentau.cli.keys:revoke", "end the trust in a key, at once"),
}

ABOUT = """Keys for links between machines: who may come, and what they may do there (docs/security.md).
They lie in ~/.config/opentau/keys, or in the folder that OPENTAU_KEYS names."""
NEW = """Make a key pair: NAME.secret.yaml stays on this machine, NAME.public.yaml is for the machines that shall trust it.
  opentau keys new arm_1"""
TRUST = """Trust a public key that came from another machine. Compare it with what `opentau keys list` says there: whoever could
change the file on its way could put another key in its place.
  opentau keys trust arm_1.public.yaml --role robot        on the server: arm_1 may ask for actions and upload episodes
  opentau keys trust server.public.yaml --role policy      on the other side: `server` is the server it may talk to
Roles: robot (plays episodes), policy (a server), operator (follows and steers a run), viewer (only follows)."""
REVOKE = """Revoke a key: its next handshake fails, and on an open link its next message is refused. The list keeps
the line; the same key cannot be trusted again.
  opentau keys revoke arm_1"""


def main(argv: Sequence[str]) -> int:
    """Run the command of keys that the first argument names."""
    return run_command("keys", COMMANDS, argv, about=ABOUT)


def new(argv: Sequence[str]) -> int:
    """Make and save a pair."""
    arguments = parser("keys new", NEW, takes_options=False)
    arguments.add_argument("name", help="letters, digits and underscores; the key's holder appears under it everywhere")
    pair = make_pair(arguments.parse_args(argv).name)
    secret_file, public_file = save_pair(pair, keys_dir())
    print(
        f"{secret_file}   the secret key: it stays here\n{public_file}   copy it to the machines that shall trust {pair.name}"
    )
    print(f"public key: {pair.public}")
    return 0


def trust(argv: Sequence[str]) -> int:
    """Add the key of a public file."""
    arguments = parser("keys trust", TRUST, takes_options=False)
    arguments.add_argument("file", type=Path, help="NAME.public.yaml of the other machine")
    arguments.add_argument("--role", required=True, choices=[str(role) for role in Role])
    arguments.add_argument("--name", help="call it so instead of as its file does; links must then use this name")
    options = arguments.parse_args(argv)
    name, public = load_public(options.file)
    entry = TrustList(keys_dir()).trust(options.name or name, public, options.role)
    print(f"trusted: {entry.name} as {entry.role}, key {entry.public}")
    return 0


def show(argv: Sequence[str]) -> int:
    """Print own pairs and the trust list."""
    parser("keys list", "Show this machine's keys and whom it trusts.", takes_options=False).parse_args(argv)
    folder = keys_dir()
    own = [load_public(path) for path in sorted(folder.glob("*.public.yaml"))]
    print(f"keys in {folder}:" if own else f"no keys in {folder}; make one with `opentau keys new NAME`")
    for name, public in own:
        print(f"  {name:<16} {public}")
    entries = TrustList(folder).entries()
    print("trusted:" if entries else "nobody is trusted; `opentau keys trust FILE --role ROLE` adds a key")
    for entry in entries:
        print(_line(entry))
    return 0


def revoke(argv: Sequence[str]) -> int:
    """End the trust in a key."""
    arguments = parser("keys revoke", REVOKE, takes_options=False)
    arguments.add_argument("name", help="as `opentau keys list` shows it")
    entry = TrustList(keys_dir()).revoke(arguments.parse_args(argv).name)
    print(f"revoked: {entry.name} ({entry.role}), key {entry.public}")
    return 0


def _line(entry: TrustedKey) -> str:
    state = f"revoked {entry.revoked_at}" if entry.revoked_at else f"since {entry.trusted_at}"
    return f"  {entry.name:<16} {entry.public}  {entry.role:<8} {state}"
