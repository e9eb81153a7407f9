"""`opentau data view`: a picture of episodes, or a recording for the Rerun viewer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from opentau.cli.data_arguments import EPISODES_HELP, dataset_parser, episode_progress
from opentau.data.lerobot.catalog import read_catalog
from opentau.data.lerobot.hub import find_dataset
from opentau.data.tools.choice import parse_episodes
from opentau.data.tools.recording import write_recording
from opentau.data.tools.sheet import default_episodes, write_sheet

DESCRIPTION = """Write a contact sheet (PNG): frames of episodes over time by camera, and every dimension of state and action.

Curves of one dimension share their range over all episodes shown; frames in which a person helped have a coloured ground."""


def main(argv: Sequence[str]) -> int:
    """Draw episodes."""
    arguments = dataset_parser("view", DESCRIPTION)
    arguments.add_argument("--episodes", metavar="LIST", help=f"{EPISODES_HELP} (default: first, middle and last)")
    arguments.add_argument("--camera", action="append", default=[], metavar="NAME", help="a camera to show; all by default")
    arguments.add_argument("--out", type=Path, metavar="FILE", help="where to write (default: the dataset's name, here)")
    arguments.add_argument("--rerun", action="store_true", help="write a recording for the Rerun viewer (extra `rerun`)")
    options = arguments.parse_args(argv)
    root = find_dataset(options.path)
    num_episodes = len(read_catalog(root).rows)
    episodes = (
        parse_episodes(options.episodes, num_episodes=num_episodes) if options.episodes else default_episodes(num_episodes)
    )
    out = options.out or Path(f"{Path(options.path).name}-{'episodes.rrd' if options.rerun else 'sheet.png'}")
    with episode_progress("view") as on_episode:
        if options.rerun:
            write_recording(root, out, episodes=episodes, on_episode=on_episode)
        else:
            write_sheet(root, out, episodes=episodes, cameras=options.camera, on_episode=on_episode)
    print(json.dumps({"path": str(out), "episodes": episodes}) if options.json else out)
    return 0
