"""One undisturbed run of the tiny experiment, against which disturbed ones are compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.loop.driving import finish

TINY = ("experiment=tiny", "run_id=run")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run."""
    runs = tmp_path_factory.mktemp("undisturbed")
    finish(runs, TINY)
    return runs / "run"
