"""`opentau data stats`: the true statistics of a dataset, beside those that it states."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from opentau.cli.data_arguments import EPISODES_HELP, dataset_parser, episode_progress
from opentau.data.lerobot.catalog import read_catalog
from opentau.data.lerobot.hub import find_dataset
from opentau.data.statistics import QUANTILES
from opentau.data.tools.choice import parse_episodes
from opentau.data.tools.findings import dimension_name
from opentau.data.tools.measure import Measured, measure
from opentau.data.tools.stated import Contradiction

COLUMNS = {"min": "minimum", **{name: name for name in QUANTILES}, "max": "maximum", "mean": "mean", "std": "std"}
"""LeRobot's names to ours, in the order shown."""
DESCRIPTION = """Compute the true statistics of state and action in one pass over all frames.

What the dataset states stands below, in red where it contradicts: a minimum above the data's, a maximum below, mean
or standard deviation off by more than 1 %. Quantiles that differ by more than 1 % of the range are a remark, in yellow:
LeRobot averages those of the episodes, and a policy that was trained with them needs them again."""


def main(argv: Sequence[str]) -> int:
    """Measure a dataset."""
    arguments = dataset_parser("stats", DESCRIPTION)
    arguments.add_argument("--episodes", metavar="LIST", help=f"{EPISODES_HELP}; then nothing is compared")
    options = arguments.parse_args(argv)
    root = find_dataset(options.path)
    episodes = None
    if options.episodes:
        episodes = parse_episodes(options.episodes, num_episodes=len(read_catalog(root).rows))
    with episode_progress("statistics") as on_episode:
        measured = measure(root, episodes=episodes, on_episode=on_episode)
    if options.json:
        print(json.dumps({each.feature: each.to_dict() for each in measured}))
    else:
        console = Console()
        for each in measured:
            console.print(_table(each))
            _print_conclusion(console, each, is_compared=episodes is None)
    return 0


def _table(measured: Measured) -> Table:
    table = Table("dimension", *COLUMNS, title=f"{measured.feature}, {measured.found.count} frames", title_justify="left")
    differing = {(each.dimension, each.statistic): each for each in measured.contradictions}
    for dim in range(measured.found.dim):
        name = dimension_name(measured.feature, dim, measured.names)
        table.add_row(
            name.removeprefix(f"{measured.feature} "),
            *(_number(getattr(measured.found, ours)[dim]) for ours in COLUMNS.values()),
        )
        if measured.stated and all(len(numbers) == measured.found.dim for numbers in measured.stated.values()):
            cells = [_stated_cell(measured, statistic, dim, differing.get((name, statistic))) for statistic in COLUMNS]
            table.add_row("[dim]  as stated[/]", *cells)
    return table


def _stated_cell(measured: Measured, statistic: str, dim: int, differing: Contradiction | None) -> str:
    if statistic not in measured.stated:
        return ""
    colour = "dim" if differing is None else "yellow" if differing.is_remark else "red"
    return f"[{colour}]{_number(measured.stated[statistic][dim])}[/]"


def _print_conclusion(console: Console, measured: Measured, *, is_compared: bool) -> None:
    errors = [each for each in measured.contradictions if not each.is_remark]
    remarks = len(measured.contradictions) - len(errors)
    if not is_compared:
        console.print("Chosen episodes are not compared with what the dataset states of all.", style="dim")
    elif not measured.stated:
        console.print(f"The dataset states no statistics of {measured.feature}.", style="dim")
    elif not measured.contradictions:
        console.print("The dataset states the same.", style="dim")
    if errors:
        console.print(f"[red]{len(errors)} stated numbers contradict the data;[/] `opentau data export` computes them anew.")
    if remarks:
        console.print(f"[yellow]{remarks} stated quantiles are not those of the data[/] (averages of the episodes' quantiles).")


def _number(value: float) -> str:
    return f"{value:.4g}"
