"""Damage is reported by dataset, file and episode with what to do, and a full disk or a kill loses nothing recorded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from opentau.data.lerobot import layout
from opentau.data.lerobot.dataset import Dataset
from opentau.errors import DataError, StorageError


def assert_names_everything(error: pytest.ExceptionInfo[DataError], dataset: Dataset, path: Path) -> None:
    text = str(error.value)
    for part in (
        str(dataset.root),
        str(path),
        "episode 1 (collect-1/000001)",
        "Restore it from a copy, or delete the dataset's folder",
    ):
        assert part in text


@pytest.fixture
def dataset(make_episode, record) -> Dataset:
    return record({0: make_episode(0), 1: make_episode(1)})


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_named(share, dataset):
    path = dataset.root / layout.data_path(1)
    block = path.read_bytes()
    path.write_bytes(block[: int(len(block) * share)])
    with pytest.raises(DataError) as error:
        dataset.load(1)
    assert_names_everything(error, dataset, path)
    dataset.load(0)


def test_a_missing_file_is_named(dataset):
    path = dataset.root / layout.data_path(1)
    path.unlink()
    with pytest.raises(DataError) as error:
        dataset.load(1)
    assert_names_everything(error, dataset, path)


def test_a_single_flipped_bit_in_any_column_is_found(dataset):
    path = dataset.root / layout.data_path(1)
    whole = path.read_bytes()
    row_group = pq.ParquetFile(path).metadata.row_group(0)
    for number in range(row_group.num_columns):
        column = row_group.column(number)
        block = bytearray(whole)
        block[column.data_page_offset + column.total_compressed_size - 3] ^= 4
        path.write_bytes(block)
        if column.path_in_schema.split(".bytes")[0] in (layout.TIMESTAMP, layout.FRAME_INDEX, layout.INDEX, layout.TASK_INDEX):
            continue  # not part of an episode
        if column.path_in_schema.endswith(".path"):
            continue  # nor are the names of images
        with pytest.raises(DataError) as error:
            dataset.load(1)
        assert_names_everything(error, dataset, path)


def test_a_file_of_another_length_is_named(dataset):
    path = dataset.root / layout.data_path(1)
    pq.write_table(pq.read_table(path).slice(0, 4), path)
    with pytest.raises(DataError, match="it holds 4 frames of the episode, meta/episodes says 6") as error:
        dataset.load(1)
    assert_names_everything(error, dataset, path)


def test_an_image_that_does_not_decode_is_named_by_frame(dataset):
    path = dataset.root / layout.data_path(1)
    table = pq.read_table(path)
    key = "observation.images.wrist"
    images = table[key].to_pylist()
    images[3]["bytes"] = images[3]["bytes"][:40]
    place = table.column_names.index(key)
    pq.write_table(table.set_column(place, table.field(place), [images]), path)
    with pytest.raises(DataError, match=r"camera wrist, frame 3: the image cannot be decoded"):
        dataset.load(1)


def test_a_damaged_description_is_named(dataset):
    (dataset.root / "meta/opentau.json").write_text("{")
    with pytest.raises(DataError, match=r"opentau\.json is missing or damaged"):
        Dataset(dataset.root)


def test_a_damaged_recording_stops_finish_and_names_the_file(make_episode, open_writer, tmp_path):
    writer = open_writer(tmp_path)
    for index in range(2):
        writer.add(index, make_episode(index))
    path = tmp_path / layout.data_path(1)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DataError, match=rf"episode 1: {path} is missing or damaged"):
        writer.finish()
    path.unlink()
    writer.add(1, make_episode(1))
    writer.finish()
    assert Dataset(tmp_path).load(1).digest() == make_episode(1).digest()


def test_a_full_disk_leaves_no_half_file_and_what_was_recorded(make_episode, open_writer, small_disk):
    root = small_disk / "dataset"
    writer = open_writer(root)
    sources = (1,) * 600
    writer.add(0, make_episode(0, sources))
    writer.add(1, make_episode(1, sources))
    with pytest.raises(StorageError, match=r"No space left on device\. Free some space and start the run again"):
        writer.add(2, make_episode(2, (1,) * 2400))
    recorded = writer.recorded()
    assert recorded == {0, 1}
    assert not list(root.rglob("*.partial"))

    subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)
    writer.add(2, make_episode(2, sources))
    writer.finish()
    digests = [make_episode(index, sources).digest() for index in range(3)]
    assert [episode.digest() for episode in Dataset(root)] == digests


def test_what_add_returned_from_survives_a_kill(make_episode, interface, open_writer, tmp_path):
    program = (
        "import sys, itertools, pathlib, numpy as np\n"
        "from opentau.data.lerobot.writer import DatasetWriter\n"
        "from opentau.types import *\n"
        f"interface = Interface.from_dict({interface.to_dict()!r})\n"
        f"writer = DatasetWriter(pathlib.Path({str(tmp_path)!r}), interface=interface, fps=20, robot_type='sim', env_id='e')\n"
        "images = {name: np.zeros((50, *shape), np.uint8) for name, shape in interface.cameras.items()}\n"
        "f32 = lambda *shape: np.zeros(shape, np.float32)\n"
        "for index in itertools.count():\n"
        "    writer.add(index, Episode(images=images, state=f32(50, 3), action=f32(50, 2), policy_action=f32(50, 2),\n"
        "        executed_action=f32(50, 2), source=np.ones(50, np.int8), reward=f32(50), value=f32(50),\n"
        "        sim_state=np.zeros((50, 0)), prompt='p', task_id='t', outcome=Outcome.TIMEOUT, seed=index,\n"
        "        episode_id=str(index), env_id='e', policy_version='v'))\n"
        "    print(index, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(3)]
        os.kill(process.pid, signal.SIGKILL)
        acknowledged += [int(line) for line in process.stdout.read().splitlines()]
    writer = open_writer(tmp_path)
    recorded = writer.recorded()
    assert set(acknowledged) <= recorded <= {*acknowledged, len(acknowledged)}
    writer.finish()
    loaded = list(Dataset(tmp_path))
    assert [episode.seed for episode in loaded] == sorted(recorded)
    assert all(np.array_equal(episode.source, np.ones(50)) for episode in loaded)
