"""What the commands for datasets have in common: their arguments, a progress bar, plain sizes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress

from opentau.cli.compose import parser
from opentau.cli.progress import COLUMNS
from opentau.data.tools.findings import Progress as OnEpisode

EPISODES_HELP = "chosen episodes, for example 0,3,8-12"


def dataset_parser(command: str, description: str) -> argparse.ArgumentParser:
    """Return a parser with the dataset and --json."""
    arguments = parser(f"data {command}", description, takes_options=False)
    arguments.add_argument("path", metavar="PATH", help="folder of the dataset, or its name on the hub (owner/name[@revision])")
    arguments.add_argument("--json", action="store_true", help="one line of JSON")
    return arguments


@contextmanager
def episode_progress(title: str) -> Iterator[OnEpisode]:
    """Draw a bar on standard error while episodes are gone through, and remove it after."""
    with Progress(*COLUMNS, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(title, total=None, note="episodes")
        yield lambda done, total: progress.update(bar, completed=done, total=total)


def size_text(num_bytes: int) -> str:
    """Return a size as people write it."""
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"
