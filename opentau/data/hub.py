"""The Hugging Face hub: repositories by name, fetched or found in its cache."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from opentau.errors import OpenTauError

REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?")
"""'owner/name' or 'owner/name@revision'."""


def fetched(
    reference: str,
    *,
    repo_type: str,
    error: type[OpenTauError],
    patterns: Sequence[str] | None = None,
    cache_dir: Path | None = None,
) -> Path:
    """Return the folder of a repository, with the files that match `patterns`, all by default.

    `HF_HUB_OFFLINE=1` asks the cache alone; `cache_dir` stands in for the hub's own. What cannot be had raises `error`.
    """
    name, _, revision = reference.partition("@")
    allowed = list(patterns) if patterns is not None else None
    try:
        found = snapshot_download(
            name, repo_type=repo_type, revision=revision or None, allow_patterns=allowed, cache_dir=cache_dir
        )
    except (
        RepositoryNotFoundError,
        EntryNotFoundError,
        OfflineModeIsEnabled,
        HfHubHTTPError,
        HFValidationError,
        OSError,
    ) as cause:
        reason = str(cause).strip().splitlines()
        raise error(
            f"{repo_type} {reference} is no folder, not in the hub's cache and cannot be fetched "
            f"({reason[0] if reason else type(cause).__name__}). Check the name, the connection and your access, unset "
            "HF_HUB_OFFLINE, or fetch it elsewhere and give its folder."
        ) from cause
    return Path(found)
