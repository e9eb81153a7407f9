"""`opentau gateway`: policies of ours for robots that speak another project's protocol."""

from __future__ import annotations

from collections.abc import Sequence

from opentau.cli.command_table import run_command

COMMANDS = {"openpi": ("opentau.cli.gateway_openpi:main", "serve a checkpoint to openpi's clients over a websocket")}


def main(argv: Sequence[str]) -> int:
    """Run one of the commands."""
    about = "Serve policies to other projects' robots (docs/gateways.md).\nThe other way round: opentau eval SERVER.yaml env=…"
    return run_command("gateway", COMMANDS, argv, about=about)
