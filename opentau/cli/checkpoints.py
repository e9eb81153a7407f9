"""Which checkpoint a command means, and the options that are given with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from opentau.checkpoint import read_manifest
from opentau.cli.compose import compose_config
from opentau.errors import OptionError
from opentau.loop.run import Product
from opentau.policies.bundled import Scored, checkpoint_path
from opentau.policies.lerobot.folder import LeRobotFolder, is_lerobot_folder
from opentau.rollout.remote_policy import RemotePolicy, is_remote_policy


def checkpoint_and_config(words: Sequence[str], *, command: str) -> tuple[Product, dict[str, Any]]:
    """Return the checkpoint that a command names first, or as policy.args.checkpoint, and the composed options.

    A policy that comes with OpenTau brings the environment and tasks that it is scored on, unless others are given.
    Raises `OptionError` where there is none and `CheckpointError` for a folder that holds no policy.
    """
    named, overrides = (None, words) if not words or "=" in words[0] else (words[0], words[1:])
    config = compose_config("loop", overrides)
    folder = named or _of_policy(config)
    if folder is None:
        raise OptionError(
            f"name the checkpoint first, as in `opentau {command} runs/RUN/stages/sft-0-…`, "
            "or policy=bundled/NAME, or policy=lerobot policy.args.checkpoint=FOLDER"
        )
    path = checkpoint_path(folder)
    scored = Scored.read(path)
    if scored is not None and (missing := scored.missing_from(list(overrides))):
        config = compose_config("loop", [*missing, *overrides])
    return Product(stage="checkpoint", path=path, id=_id(path), summary={}), config


def _id(path: Path) -> str:
    if is_remote_policy(path):
        return RemotePolicy.read(path).id
    return LeRobotFolder.read(path).id if is_lerobot_folder(path) else str(read_manifest(path)["id"])


def _of_policy(config: Mapping[str, Any]) -> str | None:
    return (config["policy"].get("args") or {}).get("checkpoint")
