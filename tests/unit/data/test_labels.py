"""Labels are written once, read back exactly and found by dataset, episode and frame."""

from __future__ import annotations

import numpy as np
import pytest

from opentau.checkpoint import is_complete, read_manifest
from opentau.data.frames import FrameTable
from opentau.data.labels import LABELS_FILE, Labels
from opentau.errors import CheckpointError, DataError

COLUMNS = ("returns", "values", "advantages", "indicator", "weight")


def labels_of(table: FrameTable) -> Labels:
    number = np.arange(len(table), dtype=np.float32)
    return Labels.of_table(
        table, returns=-number, values=number / 7, advantages=number - 3, indicator=number % 2, weight=number / 9
    )


def test_labels_come_back_as_they_were_written(make_episode, tmp_path):
    labels = labels_of(FrameTable.from_episodes([make_episode(0), make_episode(1, (1,) * 3)], dataset_id="d"))
    content_id = labels.write(tmp_path / "labels", info={"critic": "c1"})
    again = Labels.read(tmp_path / "labels")
    assert (again.keys, again.lengths) == (labels.keys, labels.lengths)
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(again, name), getattr(labels, name))
        assert getattr(again, name).dtype == getattr(labels, name).dtype
    manifest = read_manifest(tmp_path / "labels", verify=True)
    assert (manifest["id"], manifest["critic"]) == (content_id, "c1")
    assert labels.write(tmp_path / "again", info={"critic": "c2"}) == content_id


def test_labels_are_aligned_with_a_table_of_other_order_and_fewer_episodes(make_episode):
    episodes = [make_episode(number, (1,) * (3 + number)) for number in range(4)]
    table = FrameTable.from_episodes(episodes, dataset_id="d")
    labels = labels_of(table)
    part = FrameTable.from_episodes([episodes[3], episodes[1]], dataset_id="d")
    aligned = labels.aligned_with(part)
    wanted = np.concatenate([labels.values[12:18], labels.values[3:7]])
    np.testing.assert_array_equal(aligned.values, wanted)
    assert len(aligned.indicator) == len(part)


def test_an_episode_without_labels_is_named(make_episode):
    labels = labels_of(FrameTable.from_episodes([make_episode(0)], dataset_id="d"))
    for table in (
        FrameTable.from_episodes([make_episode(0), make_episode(9)], dataset_id="d"),
        FrameTable.from_episodes([make_episode(9, (1,) * 2)], dataset_id="other"),
    ):
        with pytest.raises(DataError, match=r"episode collect-1/000009 of dataset \w+ has \d frames, 0 of them with labels"):
            labels.aligned_with(table)
    with pytest.raises(DataError, match="has 8 frames, 6 of them with labels"):
        labels.aligned_with(FrameTable.from_episodes([make_episode(0, (1,) * 8)], dataset_id="d"))


def test_a_label_folder_that_is_unfinished_or_damaged_is_refused(make_episode, tmp_path):
    with pytest.raises(CheckpointError, match="is not complete"):
        Labels.read(tmp_path)
    labels_of(FrameTable.from_episodes([make_episode(0)], dataset_id="d")).write(tmp_path / "labels", info={})
    assert is_complete(tmp_path / "labels")
    path = tmp_path / "labels" / LABELS_FILE
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="run the labelling stage again"):
        Labels.read(tmp_path / "labels")


def test_an_episode_labelled_twice_and_columns_of_wrong_length_are_errors(make_episode):
    episode = make_episode(0)
    with pytest.raises(DataError, match="2 episodes, 1 different"):
        labels_of(FrameTable.from_episodes([episode, episode], dataset_id="d"))
    table = FrameTable.from_episodes([episode], dataset_id="d")
    short = np.zeros(4)
    with pytest.raises(DataError, match="labels of 6 frames"):
        Labels.of_table(table, returns=short, values=short, advantages=short, indicator=short, weight=short)
