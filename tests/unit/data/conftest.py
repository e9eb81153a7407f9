"""Small episodes and datasets that the data tests share."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from opentau.data.lerobot.dataset import Dataset
from opentau.data.lerobot.writer import DatasetWriter
from opentau.types import Episode, Interface, Outcome, Source
from tests.unit.data import recordings

FIXTURE = Path(__file__).parents[2] / "fixtures" / "lerobot_v3_ds"


@pytest.fixture(scope="session")
def fixture_root() -> Path:
    """A dataset written by LeRobot 0.6.1, without its videos."""
    return FIXTURE


@pytest.fixture(scope="session")
def interface() -> Interface:
    return Interface(
        cameras={"agentview": (16, 16, 3), "wrist": (8, 12, 3)},
        state_names=("x", "y", "grip"),
        state_units=("m", "m", "m"),
        action_names=("dx", "grip"),
        action_units=("1", "1"),
        action_space="delta_ee",
        control_hz=20.0,
    )


@pytest.fixture(scope="session")
def make_episode(interface: Interface) -> Callable[..., Episode]:
    """Make an episode of random content; `sources` gives its length."""

    def make(number: int, sources: Sequence[Source] = (Source.AUTONOMOUS,) * 6, **constants: object) -> Episode:
        rng = np.random.default_rng(number)
        length = len(sources)
        policy_action = rng.uniform(-1, 1, (length, 2)).astype(np.float32)
        policy_action[np.array(sources) == Source.INTERVENTION] = np.nan
        columns = {
            "images": {
                name: rng.integers(0, 256, (length, *shape), dtype=np.uint8) for name, shape in interface.cameras.items()
            },
            "state": rng.normal(size=(length, 3)).astype(np.float32),
            "action": rng.uniform(-1, 1, (length, 2)).astype(np.float32),
            "policy_action": policy_action,
            "executed_action": rng.uniform(-1, 1, (length, 2)).astype(np.float32),
            "source": np.array(sources, np.int8),
            "reward": np.eye(length, dtype=np.float32)[-1],
            "value": np.full(length, np.nan, np.float32),
            "sim_state": rng.normal(size=(length, 5)),
            "prompt": "push the cube",
            "task_id": "tabletop/0",
            "outcome": Outcome.SUCCESS,
            "seed": 2**62 + number,
            "episode_id": f"collect-1/{number:06d}",
            "env_id": "tabletop-1",
            "policy_version": "policy-1",
        }
        return Episode(**{**columns, **constants})

    return make


@pytest.fixture(scope="session")
def open_writer(interface: Interface) -> Callable[[Path], DatasetWriter]:
    return lambda root: DatasetWriter(root, interface=interface, fps=20, robot_type="sim", env_id="tabletop-1")


@pytest.fixture
def record(open_writer: Callable[[Path], DatasetWriter], tmp_path: Path) -> Callable[..., Dataset]:
    """Record episodes by plan index into a finished dataset."""

    def finished(episodes: dict[int, Episode], *, name: str = "dataset") -> Dataset:
        writer = open_writer(tmp_path / name)
        for index, episode in episodes.items():
            writer.add(index, episode)
        writer.finish()
        return Dataset(tmp_path / name)

    return finished


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"mounting a tmpfs is not permitted here: {mount.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recordings.record(tmp_path_factory.mktemp("recorded") / "dataset")


@pytest.fixture
def sound(recorded: Path, tmp_path: Path) -> Path:
    """A sound dataset that a test may damage."""
    return Path(shutil.copytree(recorded, tmp_path / "dataset"))


@pytest.fixture
def damaged(tmp_path: Path) -> Callable[..., Path]:
    """Record a dataset without cameras whose columns are changed before."""
    return lambda change, **options: recordings.record(tmp_path / "dataset", change=change, **{"cameras": {}, **options})


@pytest.fixture
def filmed(damaged) -> Callable[..., Path]:
    """The same with cameras."""
    return lambda change, **options: damaged(change, **{"cameras": recordings.SHAPES, **options})
