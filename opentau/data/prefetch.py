"""Batches made in a thread beside the training, and how long the training had to wait for them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from types import TracebackType

from opentau.data.batches import Batch

DEPTH = 2
"""Batches made ahead; a slow one is bridged, memory stays small."""
POLL_S = 0.1


class Prefetch:
    """Makes the batches of one update after another ahead of time; ``prefetch(update)`` is ``source(update)``.

    An update out of turn (the first one, or after a resume) starts the thread anew there. What `source` raises is raised where
    the batch is asked for. Close it, or use it as a context, so that no thread is left.
    """

    def __init__(self, source: Callable[[int], Batch], *, num_updates: int) -> None:
        self._source = source
        self._num_updates = num_updates
        self._thread: threading.Thread | None = None
        self._expected = -1
        self.wait_s = 0.0
        """Seconds that calls have waited so far."""
        self.num_taken = 0

    def __call__(self, update: int) -> Batch:
        """Return the batch of an update."""
        if not 0 <= update < self._num_updates:
            raise ValueError(f"update {update} is none of the {self._num_updates} of this training")
        started_s = time.perf_counter()
        if update != self._expected:
            self._restart(update)
        made, batch = self._ready.get()
        assert made == update, "batches come in the order of their updates"
        self._expected = update + 1
        self.wait_s += time.perf_counter() - started_s
        self.num_taken += 1
        if isinstance(batch, BaseException):
            raise batch
        return batch

    def close(self) -> None:
        """Stop the thread and wait for it."""
        if self._thread is not None:
            self._is_stopping.set()
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _restart(self, update: int) -> None:
        self.close()
        self._is_stopping = threading.Event()
        self._ready: queue.Queue[tuple[int, Batch | BaseException]] = queue.Queue(maxsize=DEPTH)
        self._thread = threading.Thread(target=self._work, args=(update,), name="prefetch", daemon=True)
        self._thread.start()

    def _work(self, first: int) -> None:
        for update in range(first, self._num_updates):
            made: Batch | BaseException
            try:
                made = self._source(update)
            except BaseException as error:  # noqa: BLE001  (the border of the thread: the training raises it)
                made = error
            while not self._is_stopping.is_set():
                try:
                    self._ready.put((update, made), timeout=POLL_S)
                    break
                except queue.Full:
                    continue
            if self._is_stopping.is_set() or isinstance(made, BaseException):
                return
