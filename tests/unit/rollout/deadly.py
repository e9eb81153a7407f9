"""An expert that takes its process with it."""

from __future__ import annotations

import os
import sys

from tests.fakes import CountingEnv


class DeadlyExpert:
    """Dies in its first action, as a crash in native code would."""

    phase = "die"

    def __init__(self, env: CountingEnv) -> None: ...

    def start(self, *, seed: int, is_clean: bool) -> None: ...

    def act(self) -> None:
        print("bad instruction", file=sys.stderr, flush=True)
        os._exit(139)
