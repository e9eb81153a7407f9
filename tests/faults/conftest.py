"""Every test here is of the tier `faults`; the fixture owns all processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.scene import Scene, scenes


@pytest.fixture
def make_scene(tmp_path: Path) -> Iterator[Callable[..., Scene]]:
    with scenes(tmp_path / "scene") as make:
        yield make
