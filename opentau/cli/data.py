"""`opentau data`: the table from sub-command to function for everything about data sets; imports are late as in `main`."""

from __future__ import annotations

from collections.abc import Sequence

from opentau.cli.compose import parser
from opentau.config import locate
from opentau.errors import OptionError, near_matches

COMMANDS: dict[str, tuple[str, str]] = {
    "make-vqa": ("opentau.cli.data_vqa:main", "make visual questions with certain answers from simulated scenes"),
}


def main(argv: Sequence[str]) -> int:
    """Run one sub-command."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        rows = "\n".join(f"  {name:<9} {text}" for name, (_, text) in COMMANDS.items())
        description = f"Make and look after data sets.\n\n{rows}\n\nopentau data COMMAND --help teaches each."
        parser("data COMMAND", description, takes_options=False).parse_args(["--help"])
    name, *rest = argv
    if name not in COMMANDS:
        raise OptionError(f"there is no command {name!r}.{near_matches(name, COMMANDS)}")
    return int(locate(COMMANDS[name][0])(rest) or 0)
