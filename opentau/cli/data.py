"""`opentau data`: the table of what can be done with a dataset; imports are late, as in the table of commands."""

from __future__ import annotations

from collections.abc import Sequence

from opentau.cli.command_table import run_command

COMMANDS: dict[str, tuple[str, str]] = {
    "info": ("opentau.cli.data_info:main", "what a dataset holds: episodes, tasks, cameras, who acted"),
    "stats": ("opentau.cli.data_stats:main", "true statistics of states and actions, beside those it states"),
    "check": ("opentau.cli.data_check:main", "find what is wrong with a dataset; exit 1 on errors"),
    "view": ("opentau.cli.data_view:main", "a picture of episodes: frames over time, states and actions"),
    "mix": ("opentau.cli.data_mix:main", "what a mixture gives: shares, what is masked, one batch as a picture"),
    "make-vqa": ("opentau.cli.data_vqa:main", "make visual questions with certain answers from simulated scenes"),
    "render": ("opentau.cli.data_render:main", "draw a recording anew: other sizes, cameras, looks"),
    "export": ("opentau.cli.data_export:main", "a cleaned copy: chosen episodes, smaller images, other names"),
}

ABOUT = """Look at LeRobot datasets (v2.0, v2.1, v3.0), ours and others', and mend them.
Datasets are folders, or names on the Hugging Face hub such as owner/name or owner/name@revision."""


def main(argv: Sequence[str]) -> int:
    """Run one of the commands for datasets."""
    return run_command("data", COMMANDS, argv, about=ABOUT)
