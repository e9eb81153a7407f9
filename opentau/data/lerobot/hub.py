"""Datasets by name: a folder, a copy that LeRobot keeps, or a repository of the Hugging Face hub with its cache."""

from __future__ import annotations

import os
import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from opentau.data.lerobot import layout
from opentau.errors import DataError

REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?")


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
    try:
        return Path(snapshot_download(name, repo_type="dataset", revision=revision or None, cache_dir=cache_dir))
    except (
        RepositoryNotFoundError,
        EntryNotFoundError,
        OfflineModeIsEnabled,
        HfHubHTTPError,
        HFValidationError,
        OSError,
    ) as error:
        reason = str(error).strip().splitlines()
        raise DataError(
            f"dataset {reference} is no folder, not in the hub's cache and cannot be fetched "
            f"({reason[0] if reason else type(error).__name__}). Check the name and the connection, unset HF_HUB_OFFLINE, or "
            "fetch it elsewhere and give its folder."
        ) from error
