"""A dataset's name finds a folder, LeRobot's copy or the hub's cache, and says what to do when there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from opentau.data.lerobot.dataset import Dataset
from opentau.data.lerobot.hub import find_dataset
from opentau.errors import DataError
from tests.unit.data import foreign

OLD, NEW = "0" * 40, "1" * 40


@pytest.fixture
def hub_cache(tmp_path: Path) -> Path:
    """A hub cache with two revisions of a dataset, the newer one as main and tagged."""
    repository = tmp_path / "hub" / "datasets--someone--cups"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(NEW)
    (repository / "refs/v2.1").write_text(OLD)
    foreign.write_v21(repository / "snapshots" / OLD)
    foreign.write_v30(repository / "snapshots" / NEW)
    return tmp_path / "hub"


@pytest.fixture(autouse=True)
def lerobot_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_LEROBOT_HOME", str(tmp_path / "lerobot"))
    return tmp_path / "lerobot"


def test_a_name_finds_the_hubs_cache_and_a_revision_pins_it(hub_cache):
    assert find_dataset("someone/cups", cache_dir=hub_cache).name == NEW
    assert find_dataset("someone/cups@v2.1", cache_dir=hub_cache).name == OLD
    assert find_dataset(f"someone/cups@{OLD}", cache_dir=hub_cache).name == OLD
    assert len(Dataset(find_dataset("someone/cups", cache_dir=hub_cache))) == 3


def test_a_copy_that_lerobot_keeps_is_used_unless_a_revision_is_named(hub_cache, lerobot_folder):
    foreign.write_v30(lerobot_folder / "someone/cups")
    assert find_dataset("someone/cups", cache_dir=hub_cache) == lerobot_folder / "someone/cups"
    assert find_dataset("someone/cups@v2.1", cache_dir=hub_cache).name == OLD


def test_a_folder_is_taken_as_it_is(tmp_path):
    assert find_dataset(str(tmp_path)) == tmp_path


def test_what_cannot_be_had_says_why_and_what_to_do(hub_cache):
    with pytest.raises(DataError, match=r"someone/plates is no folder, not in the hub's cache.*unset HF_HUB_OFFLINE"):
        find_dataset("someone/plates", cache_dir=hub_cache)
    with pytest.raises(DataError, match=r"someone/cups@v9 .*cannot be fetched"):
        find_dataset("someone/cups@v9", cache_dir=hub_cache)
    with pytest.raises(DataError, match=r"there is no dataset folder \./nowhere; give a folder"):
        find_dataset("./nowhere")
