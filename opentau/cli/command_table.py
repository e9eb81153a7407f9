"""Commands of commands, such as `opentau data`: a table from name to function; imports are late, as in the outer table."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from opentau.config import locate
from opentau.errors import near_matches


def run_command(group: str, commands: Mapping[str, tuple[str, str]], argv: Sequence[str], *, about: str) -> int:
    """Run the command that `argv` names, of ("pkg.mod:main", what it does) by name; without one, say which there are."""
    usage = f"usage: opentau {group} COMMAND …   (opentau {group} COMMAND --help teaches each)"
    arguments = list(argv) or ["--help"]
    if arguments[0] in ("-h", "--help", "help"):
        what, _, where = about.partition("\n")
        width = max(map(len, commands))
        rows = "\n".join(f"  {name:<{width}}  {text}" for name, (_, text) in commands.items())
        print("\n".join([what, "", usage, *([where] if where else []), "", rows]))
        raise SystemExit(0)  # as the parsers of the other commands answer --help
    name, *rest = arguments
    if name not in commands:
        print(f"opentau {group}: unknown command {name!r}.{near_matches(name, commands)}\n{usage}", file=sys.stderr)
        return 2
    return int(locate(commands[name][0])(rest) or 0)
