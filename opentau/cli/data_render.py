"""`opentau data render`: a recording drawn anew from its simulator states."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from opentau.cli.compose import compose_config, parser
from opentau.cli.data_arguments import episode_progress
from opentau.data.lerobot.hub import find_dataset
from opentau.data.tools.render import RenderOptions, render
from opentau.errors import OptionError
from opentau.loop.options import LoopOptions

DESCRIPTION = """Draw a recording anew. Its episodes hold the simulator's state at every frame, so that size, cameras and look
can still be chosen; states, actions and outcomes stay. The result is a dataset as any other.
  opentau data render FOLDER env=libero/object --size 224 --out data/large
  opentau data render FOLDER env=libero/object --cameras agentview,wrist,front --out data/three
  opentau data render FOLDER env=libero/object --randomise --seed 1 --out data/varied      another look for every episode
  opentau sft env=libero/object env.args.image_size=224 data.datasets=[data/large]         trains on it
Give the environment that it was recorded in (env=, and env.args.… where they were changed); another scene is refused.
At the recorded size, without --randomise and on the same OpenGL, frames are the recorded ones bit for bit."""
LOOKS = ("camera", "light", "texture", "noise")


def main(argv: Sequence[str]) -> int:
    """Render a dataset."""
    parsed = _arguments().parse_intermixed_args(argv)
    folders = [text for text in parsed.options if "=" not in text]
    if len(folders) != 1:
        raise OptionError(f"give the folder of one recording, not {len(folders)}")
    options = LoopOptions.from_config(compose_config("loop", [text for text in parsed.options if "=" in text]))
    args = dict(options.env.args)
    if parsed.size is not None:
        args["image_size"] = parsed.size
    if parsed.cameras:
        args["cameras"] = parsed.cameras.split(",")
    wanted = RenderOptions(env={**options.env.own_spec, "args": args}, looks=_looks(parsed.randomise), seed=parsed.seed)
    with episode_progress("render") as on_episode:
        made = render(find_dataset(folders[0]), parsed.out, options=wanted, on_episode=on_episode)
    if parsed.json:
        print(json.dumps(made.to_dict()))
        return 0
    sizes = ", ".join(f"{camera} {height} x {width}" for camera, (height, width, _) in made.cameras.items())
    videos = f"; as video: {', '.join(made.video_cameras)}" if made.video_cameras else ""
    Console().print(f"[green]✓[/] {made.num_episodes} episodes, {made.num_frames} frames: {sizes}{videos}", highlight=False)
    print(made.path)
    return 0


def _looks(chosen: str | None) -> tuple[str, ...]:
    if chosen is None:
        return ()
    looks = tuple(chosen.split(","))
    unknown = [look for look in looks if look not in LOOKS]
    if unknown:
        raise OptionError(f"--randomise takes some of {', '.join(LOOKS)}, not {unknown[0]!r}")
    return looks


def _arguments() -> argparse.ArgumentParser:
    arguments = parser("data render", DESCRIPTION)
    arguments.add_argument("--out", type=Path, metavar="FOLDER", required=True, help="the new dataset; must not exist")
    arguments.add_argument("--size", type=int, metavar="N", help="side of the images, pixels (default: env.args.image_size)")
    arguments.add_argument("--cameras", metavar="A,B", help="cameras by name; LIBERO and robosuite also have front, side, bird")
    arguments.add_argument(
        "--randomise",
        nargs="?",
        const=",".join(LOOKS),
        metavar="LOOKS",
        help=f"another look for every episode: some of {','.join(LOOKS)}, all without a list",
    )
    arguments.add_argument("--seed", type=int, default=0, help="decides the looks (default 0)")
    arguments.add_argument("--json", action="store_true", help="one line of JSON")
    return arguments
