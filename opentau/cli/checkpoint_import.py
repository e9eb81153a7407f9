"""`opentau checkpoint import`: a published π0 or π0.5 as a checkpoint of ours."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from opentau.cli.compose import compose_config, parser
from opentau.cli.pairs import pair
from opentau.config import locate
from opentau.data.images import ImageFit
from opentau.data.lerobot.dataset import Dataset
from opentau.data.lerobot.hub import find_dataset
from opentau.errors import OptionError
from opentau.loop.options import LoopOptions
from opentau.policies.published.reading import ReadOptions
from opentau.policies.published.taking_in import TOKENIZER_REPOSITORY, TakenIn, described, take_in
from opentau.types import Interface

DESCRIPTION = """Take in a π0 or π0.5 as LeRobot, openpi (PyTorch) or TensorAuto OpenTau store it: weights, scaling, words.
  opentau checkpoint import lerobot/pi05_base --out checkpoints/pi05
  opentau sft policy=pretrained policy.args.checkpoint=checkpoints/pi05 env=libero/object    fine-tunes it
To serve it as it is, say which robot it was trained for, by a LeRobot dataset or an environment:
  opentau checkpoint import lerobot/pi05_libero --out checkpoints/pi05-libero env=libero/object \\
      --camera image=agentview --camera image2=wrist"""


def main(argv: Sequence[str]) -> int:
    """Take a checkpoint in and say what it is."""
    arguments = _arguments()
    parsed = arguments.parse_intermixed_args(argv)
    if not parsed.options:
        arguments.error("name the checkpoint first: a folder, or owner/name on the hub")
    source, *overrides = parsed.options
    taken = take_in(
        source,
        parsed.out,
        options=ReadOptions(
            vision_heads=parsed.vision_heads,
            action_horizon=parsed.action_horizon,
            prompt_template=parsed.prompt_template.encode().decode("unicode_escape") if parsed.prompt_template else None,
            image_fit=ImageFit(parsed.image_fit) if parsed.image_fit else None,
            dataset=parsed.dataset,
            norm_stats=parsed.norm_stats,
        ),
        tokenizer=parsed.tokenizer,
        interface=_interface(parsed.robot, overrides),
        cameras=dict(pair(text, flag="--camera", form="POLICYS=ROBOTS") for text in parsed.camera) or None,
    )
    if parsed.json:
        print(json.dumps(described(taken)))
    else:
        _print(taken)
    return 0


def _arguments() -> argparse.ArgumentParser:
    arguments = parser("checkpoint import", DESCRIPTION)
    arguments.add_argument("--out", type=Path, metavar="FOLDER", required=True, help="the checkpoint; must not exist")
    arguments.add_argument(
        "--tokenizer", metavar="REFERENCE", default=TOKENIZER_REPOSITORY,
        help=f"folder or repository of the tokenizer.json (default {TOKENIZER_REPOSITORY})",
    )  # fmt: skip
    arguments.add_argument("--robot", metavar="DATASET", help="LeRobot dataset of the robot that it serves; or give env=…")
    arguments.add_argument(
        "--camera", action="append", default=[], metavar="POLICYS=ROBOTS", help="which camera is which; can be repeated"
    )
    arguments.add_argument("--vision-heads", type=int, metavar="N", help="heads of a vision tower other than SigLIP So400m")
    arguments.add_argument("--action-horizon", type=int, metavar="N", help="where the checkpoint does not name it (openpi)")
    arguments.add_argument(
        "--prompt-template", metavar="TEXT",
        help="text of a prompt with {prompt} and {state}, \\n for a break, <eos> for the end of a text",
    )  # fmt: skip
    arguments.add_argument(
        "--image-fit", choices=[fit.value for fit in ImageFit],
        help="how images of other sizes are brought to the tower's: centred averages all pixels that shrink into one, openpi "
        "does too and cuts sides to whole pixels, lerobot takes the nearest two, tensorauto also moves the image to the lower "
        "right; "
        "default: tensorauto for TensorAuto OpenTau's checkpoints, centred for others",
    )  # fmt: skip
    arguments.add_argument("--dataset", type=int, metavar="N", help="whose scaling is taken, of several (TensorAuto OpenTau)")
    arguments.add_argument("--norm-stats", type=Path, metavar="FILE", help="norm_stats.json of the robot, of several (openpi)")
    arguments.add_argument("--json", action="store_true", help="one line of JSON")
    return arguments


def _interface(robot: str | None, overrides: Sequence[str]) -> Interface | None:
    """Return what the served robot offers: as a dataset recorded it, or as an environment describes itself."""
    if robot and overrides:
        raise OptionError(f"--robot {robot} and {overrides[0]} both name a robot; give one of them")
    if robot:
        return Dataset(find_dataset(robot), with_images=False).interface
    if not overrides:
        return None
    options = LoopOptions.from_config(compose_config("loop", overrides))
    console = Console(stderr=True)
    (task, *_) = locate("opentau.loop.setting:describe_tasks")(options, on_line=lambda line: console.print(line, style="dim"))
    return Interface.from_dict(task.interface)


def _print(taken: TakenIn) -> None:
    console = Console()
    console.print(f"[green]✓[/] {taken.project}, {taken.num_parameters / 1e6:.0f} million parameters", highlight=False)
    if not taken.interface.control_hz:
        console.print(
            "  serves no robot yet: it can be trained further, or taken in again with --robot or env=…", style="yellow"
        )
    print(taken.path)
