"""How stock robosuite, and LIBERO on it, are imported."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator


@contextlib.contextmanager
def imports_without_opengl() -> Iterator[None]:
    """Let robosuite be imported where no OpenGL is installed: only under 'glx' it opens nothing on import."""
    before = os.environ.get("MUJOCO_GL")
    os.environ["MUJOCO_GL"] = "glx"
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
        if before is None:
            del os.environ["MUJOCO_GL"]
        else:
            os.environ["MUJOCO_GL"] = before
