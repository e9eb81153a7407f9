"""A run's event log as TensorBoard files: one folder of scalars per stage, live or afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from opentau import events
from opentau.errors import OptionError

FOLDER = "tensorboard"
SCORES = "scores"
"""Folder of the scores over the iterations, beside those of the stages."""


class TensorBoardSink:
    """Writes events under `runs/<id>/tensorboard`, anew each time: the event log is the truth, this is a copy of it."""

    def __init__(self, run_dir: Path) -> None:
        try:
            # An optional package: the extra `tensorboard`.
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise OptionError(f"TensorBoard is not installed ({error}); install the extra `tensorboard`") from error
        self.directory = run_dir / FOLDER
        shutil.rmtree(self.directory, ignore_errors=True)
        self._open = SummaryWriter
        self._writers: dict[str, Any] = {}

    def write(self, emitted: Iterable[Mapping[str, Any]]) -> int:
        """Write what is a number over time, and return how many numbers that was."""
        count = 0
        for event in emitted:
            if event["kind"] == events.TRAIN_METRICS:
                for name, value in event["metrics"].items():
                    self._scalar(event["stage"], name, value, step=event["update"], at=event["t"])
                    count += 1
            elif event["kind"] == events.EVALUATED:
                share = event["successes"] / event["episodes"]
                folder = f"{SCORES}/{event['role']}"
                self._scalar(folder, "eval/success_rate", share, step=event["iteration"], at=event["t"])
                count += 1
        for writer in self._writers.values():
            writer.flush()
        return count

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def __enter__(self) -> TensorBoardSink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _scalar(self, folder: str, name: str, value: float, *, step: int, at: float) -> None:
        if folder not in self._writers:
            self._writers[folder] = self._open(str(self.directory / folder))
        self._writers[folder].add_scalar(name, value, global_step=step, walltime=at)
