"""The processes that torchrun started for one command: the first leads and does every stage, the others join the trainings.

Every process runs the same program from top to bottom. What the others must know of the leader (which tasks there are, which
stages exist, that it was asked to stop) it tells them over torchrun's own store, in words that are JSON.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from opentau.errors import RunError

LAUNCHED = "TORCHELASTIC_RUN_ID"
"""Set by torchrun for the processes that it starts."""
POLL_S = 0.1


class Crew:
    """The processes of a command, seen from one of them; without torchrun it is a crew of one."""

    def __init__(self, *, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size
        self._num_words = 0
        self._store: Any = None

    @classmethod
    def of_environment(cls) -> Crew:
        """Return the crew that torchrun's environment describes."""
        if LAUNCHED not in os.environ:
            return cls()
        return cls(rank=int(os.environ["RANK"]), size=int(os.environ["WORLD_SIZE"]))

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def tell(self, word: Any) -> None:
        """Tell all others something plain; the leader's half of `hear`."""
        if self.size > 1:
            self._open_store().set(self._next_key(), json.dumps(word))

    def hear(self) -> Any:
        """Wait for the leader's next word, however long it takes; raises `RunError` when the leader is gone."""
        store, key = self._open_store(), self._next_key()
        try:
            while not store.check([key]):
                time.sleep(POLL_S)
            return json.loads(store.get(key))
        except RuntimeError as error:
            raise RunError(
                f"process {self.rank} of {self.size} lost the first one, whose own message says why. Start the same command "
                f"again: it resumes. ({str(error).splitlines()[0]})"
            ) from error

    def _next_key(self) -> str:
        self._num_words += 1
        return f"word-{self._num_words}"

    def _open_store(self) -> Any:
        if self._store is None:
            from opentau.training.distribution import meet  # torch: the extra `train`, and slow for commands without a crew

            self._store, _, _ = meet("crew")
        return self._store
