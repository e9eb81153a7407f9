"""LIBERO environments shared by the tests of this folder."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

# Stock stepping compiles small functions on first use; uncompiled they are fast enough for a few steps.
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")

from envs.libero.environment import LiberoEnv


@pytest.fixture(scope="session")
def env() -> Iterator[LiberoEnv]:
    """Task 0, lean stepping, small frames; every test resets it."""
    env = LiberoEnv(image_size=32)
    yield env
    env.close()


@pytest.fixture(scope="session")
def exact_env() -> Iterator[LiberoEnv]:
    """Task 0 with stock stepping."""
    env = LiberoEnv(image_size=32, stepping="exact")
    yield env
    env.close()
