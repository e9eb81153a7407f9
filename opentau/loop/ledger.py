"""Results of numbered episodes, one line each, written as they finish and read back after a kill."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from opentau.checkpoint import storage_errors
from opentau.types import EpisodePlan, EpisodeResult

LEDGER_FILE = "episodes.jsonl"


class Ledger:
    """Episode results by episode id; a torn last line counts as not written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._results: dict[str, EpisodeResult] = {}
        if path.is_file():
            for line in path.read_bytes().splitlines():
                result = _parse(line)
                if result is not None:
                    self._results[result.plan.episode_id] = result
            self.write_ordered(self._results.values())

    def missing(self, plans: Iterable[EpisodePlan]) -> list[EpisodePlan]:
        """Return the plans that have no result yet."""
        return [plan for plan in plans if plan.episode_id not in self._results]

    def add(self, result: EpisodeResult) -> None:
        """Append one result and make it durable."""
        self._results[result.plan.episode_id] = result
        with storage_errors(self.path), open(self.path, "ab") as file:
            file.write(msgspec.json.encode(result) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def results(self, plans: Sequence[EpisodePlan]) -> list[EpisodeResult]:
        """Return the results of `plans` in their order."""
        return [self._results[plan.episode_id] for plan in plans]

    def write_ordered(self, results: Iterable[EpisodeResult]) -> None:
        """Rewrite the file with `results` in the given order, so that its bytes do not depend on who finished first."""
        partial = self.path.with_suffix(".partial")
        with storage_errors(self.path):
            partial.write_bytes(b"".join(msgspec.json.encode(result) + b"\n" for result in results))
            os.replace(partial, self.path)


def read_results(path: Path) -> list[EpisodeResult]:
    """Return the results of a finished ledger."""
    return [msgspec.json.decode(line, type=EpisodeResult) for line in path.read_bytes().splitlines()]


def _parse(line: bytes) -> EpisodeResult | None:
    try:
        json.loads(line)
    except ValueError:
        return None
    return msgspec.json.decode(line, type=EpisodeResult)
