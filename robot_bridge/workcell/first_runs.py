"""Which checkpoints have run on this robot before: a small file beside the station's configuration."""

from __future__ import annotations

import json
import os
from pathlib import Path

from opentau.errors import RobotError


class FirstRuns:
    """Remembers policy versions over restarts; without a file, as long as the station lives."""

    def __init__(self, path: Path | None) -> None:
        """Raises `RobotError` for a file that is none of ours: what it remembers decides how fast the robot moves."""
        self._path = path
        self._versions: list[str] = []
        if path is None or not path.exists():
            return
        try:
            self._versions = [str(version) for version in json.loads(path.read_text())["policy_versions"]]
        except (ValueError, KeyError, TypeError) as error:
            raise RobotError(f"{path} does not list policy versions; delete it, and every checkpoint begins slowly") from error

    def has_run(self, policy_version: str) -> bool:
        return policy_version in self._versions

    def remember(self, policy_version: str) -> None:
        """Note that a checkpoint has had its first run."""
        if self.has_run(policy_version):
            return
        self._versions.append(policy_version)
        if self._path is not None:
            partial = self._path.with_name(self._path.name + ".partial")
            partial.write_text(json.dumps({"policy_versions": self._versions}, indent=1))
            os.replace(partial, self._path)
