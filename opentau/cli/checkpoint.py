"""`opentau checkpoint`: the table of what can be done with weights from elsewhere and for elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from opentau.cli.command_table import run_command

COMMANDS: dict[str, tuple[str, str]] = {
    "import": ("opentau.cli.checkpoint_import:main", "take in a π0 or π0.5 of LeRobot, openpi (PyTorch) or TensorAuto OpenTau"),
    "card": ("opentau.cli.checkpoint_card:main", "measure a checkpoint and write its model card"),
    "export": ("opentau.cli.checkpoint_export:main", "write a π0 or π0.5 in LeRobot's layout"),
}
ABOUT = """Take published policies in and give trained ones out.
Checkpoints are folders, or names on the Hugging Face hub such as lerobot/pi05_base or owner/name@revision."""


def main(argv: Sequence[str]) -> int:
    """Run one of the commands for checkpoints."""
    return run_command("checkpoint", COMMANDS, argv, about=ABOUT)
