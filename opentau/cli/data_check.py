"""`opentau data check`: what is wrong with a dataset."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from opentau.cli.data_arguments import dataset_parser, episode_progress
from opentau.data.lerobot.hub import find_dataset
from opentau.data.tools.check import CheckReport, check
from opentau.data.tools.findings import Severity

DESCRIPTION = """Find what is wrong with a dataset: files, counts, times, numbers, cameras, grippers, action spaces, duplicates.

Every finding says where it is, which value it has and what to do. Errors fail training or teach wrong things; warnings
are worth a look. The exit code is 1 when there is an error."""
COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow"}


def main(argv: Sequence[str]) -> int:
    """Check a dataset; exit 1 when there is an error."""
    arguments = dataset_parser("check", DESCRIPTION)
    arguments.add_argument("--fast", action="store_true", help="leave out pixels, most of the time")
    options = arguments.parse_args(argv)
    root = find_dataset(options.path)
    with episode_progress("check") as on_episode:
        report = check(root, with_pixels=not options.fast, on_episode=on_episode)
    if options.json:
        print(json.dumps(report.to_dict()))
    else:
        _print(report)
    return int(report.num_errors > 0)


def _print(report: CheckReport) -> None:
    console = Console()
    looked = f"{report.num_episodes} episodes{'' if report.has_pixels else ', without pixels'}"
    if not report.findings:
        console.print(f"[green]✓[/] nothing wrong: {looked} of {escape(report.path)}", highlight=False)
        return
    table = Table("", "kind", "finding", "what to do", show_lines=True)
    for finding in report.findings:
        severity = f"[{COLOURS[finding.severity]}]{finding.severity}[/]"
        table.add_row(severity, finding.code, escape(finding.text), escape(finding.fix))
    console.print(table)
    num_warnings = len(report.findings) - report.num_errors
    console.print(f"{report.num_errors} errors, {num_warnings} warnings in {looked} of {escape(report.path)}", highlight=False)
