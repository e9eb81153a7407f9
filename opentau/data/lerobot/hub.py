"""Datasets by name: a folder, a copy that LeRobot keeps, or a repository of the Hugging Face hub with its cache."""

from __future__ import annotations

import os
from pathlib import Path

from opentau.data.hub import REPOSITORY, fetched
from opentau.data.lerobot import layout
from opentau.errors import DataError


def lerobot_home() -> Path:
    """Return where LeRobot keeps datasets by name: `HF_LEROBOT_HOME`, else its folder in the Hugging Face cache."""
    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    return Path(os.environ.get("HF_LEROBOT_HOME") or Path(home) / "lerobot")


def find_dataset(reference: str, *, cache_dir: Path | None = None) -> Path:
    """Return the folder of a dataset given as a path, as 'owner/name' or as 'owner/name@revision'.

    A name without a revision is looked for in LeRobot's folder first. `HF_HUB_OFFLINE=1` asks the cache alone; `cache_dir`
    stands in for the hub's own cache. Raises `DataError` for what is neither here nor to be had.
    """
    folder = Path(reference).expanduser()
    if folder.is_dir():
        return folder
    if not REPOSITORY.fullmatch(reference):
        raise DataError(
            f"there is no dataset folder {reference}; give a folder that holds {layout.INFO_PATH}, or a name on the hub such "
            "as 'owner/name' or 'owner/name@revision'"
        )
    name, _, revision = reference.partition("@")
    kept = lerobot_home() / name
    if not revision and (kept / layout.INFO_PATH).is_file():
        return kept
    return fetched(reference, repo_type="dataset", error=DataError, cache_dir=cache_dir)
