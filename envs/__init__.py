"""Gymnasium environments; nothing here imports the rest of the project."""

from __future__ import annotations

import ctypes
import os

# `import mujoco` fails outright when MUJOCO_GL names a library that is not installed. Our renderer opens OpenGL itself
# (envs/opengl.py), so such a name must not keep physics from loading.
_LIBRARY_OF_MUJOCO_GL = {"egl": "libEGL.so.1", "osmesa": "libOSMesa.so.8"}


def _can_load(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


_wanted = os.environ.get("MUJOCO_GL", "").strip().lower()
if _wanted in _LIBRARY_OF_MUJOCO_GL and not _can_load(_LIBRARY_OF_MUJOCO_GL[_wanted]):
    os.environ["MUJOCO_GL"] = "disable"
