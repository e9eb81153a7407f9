"""`opentau data export`: a cleaned copy of a dataset."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from opentau.cli.data_arguments import EPISODES_HELP, dataset_parser, episode_progress
from opentau.cli.pairs import pair
from opentau.data.lerobot.catalog import read_catalog
from opentau.data.lerobot.hub import find_dataset
from opentau.data.tools.choice import parse_episodes
from opentau.data.tools.export import MAX_IMAGE_SIDE, Exported, ExportOptions, export
from opentau.data.tools.findings import named_episodes

DESCRIPTION = f"""Write a cleaned copy of a dataset in LeRobot's v3.0 layout, which LeRobot and OpenTau load.

Frames are numbered and timed anew, statistics are those of the data. Cameras up to {MAX_IMAGE_SIDE} pixels are stored exactly,
larger ones as video (AV1). The copy appears when it is complete; what an interrupted export leaves, the next one removes."""


def main(argv: Sequence[str]) -> int:
    """Export a dataset."""
    options = _arguments().parse_args(argv)
    root = find_dataset(options.path)
    num_episodes = len(read_catalog(root).rows)
    wanted = ExportOptions(
        episodes=parse_episodes(options.episodes, num_episodes=num_episodes) if options.episodes else None,
        exclude=parse_episodes(options.exclude, num_episodes=num_episodes) if options.exclude else (),
        only_successes=options.successes,
        image_size=options.image_size,
        camera_names=dict(pair(text, flag="--rename-camera", form="old=new") for text in options.rename_camera),
    )
    with episode_progress("export") as on_episode:
        exported = export(root, options.out, options=wanted, on_episode=on_episode)
    if options.json:
        print(json.dumps(exported.to_dict()))
    else:
        _print(exported)
    return 0


def _arguments() -> argparse.ArgumentParser:
    arguments = dataset_parser("export", DESCRIPTION)
    arguments.add_argument("--out", type=Path, metavar="FOLDER", required=True, help="the copy; must not exist")
    arguments.add_argument("--episodes", metavar="LIST", help=f"{EPISODES_HELP}; all by default")
    arguments.add_argument("--exclude", metavar="LIST", help="episodes to leave out")
    arguments.add_argument("--successes", action="store_true", help="only episodes that succeeded")
    arguments.add_argument("--image-size", type=int, metavar="N", help="shrink images to N pixels on their longer side")
    arguments.add_argument(
        "--rename-camera", action="append", default=[], metavar="OLD=NEW", help="another name for a camera; can be repeated"
    )
    return arguments


def _print(exported: Exported) -> None:
    console = Console()
    videos = f", as video: {', '.join(exported.video_cameras)}" if exported.video_cameras else ""
    console.print(f"[green]✓[/] {exported.num_episodes} episodes, {exported.num_frames} frames{videos}", highlight=False)
    if exported.dropped_columns:
        console.print(f"  not in the copy: {', '.join(exported.dropped_columns)}", style="yellow", highlight=False)
    if exported.retimed_episodes:
        named = named_episodes(exported.retimed_episodes)
        console.print(f"  timestamps of {named} were not frame_index / fps; the copy's are", style="yellow", highlight=False)
    print(exported.path)
