"""How fast a training goes and what of the machine it takes, measured beside it; nothing of it enters a result."""

from __future__ import annotations

import resource
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

GB = 1e9


@dataclass(slots=True)
class Meter:
    """Rates since it was read last."""

    directory: Path | None = None
    """Whose disk is looked at; None for none."""
    _last: tuple[float, float, int] | None = field(default=None, init=False)

    def read(self, done: int) -> dict[str, float]:
        """Return what happened since the last reading, `done` updates being done; no rates the first time."""
        now = (time.monotonic(), time.process_time(), done)
        facts: dict[str, float] = {}
        if self._last is not None and done > self._last[2] and now[0] > self._last[0]:
            seconds = now[0] - self._last[0]
            facts["machine/updates_per_s"] = (done - self._last[2]) / seconds
            facts["machine/cpu"] = (now[1] - self._last[1]) / seconds
        self._last = now
        facts["machine/memory_gb"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GB
        if torch.cuda.is_available():
            facts["machine/gpu_memory_gb"] = torch.cuda.max_memory_allocated() / GB
        if self.directory is not None and self.directory.is_dir():
            facts["machine/disk_free_gb"] = shutil.disk_usage(self.directory).free / GB
        return facts
