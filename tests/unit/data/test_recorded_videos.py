"""Recorded datasets with several tasks an episode and with cameras stored as video, in the layout that LeRobot reads."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from opentau.data.lerobot import layout
from opentau.data.lerobot.dataset import Dataset
from opentau.data.lerobot.video import encode
from opentau.data.lerobot.writer import DatasetWriter
from opentau.errors import DataError
from opentau.types import Episode
from tests.unit.data import foreign

SHAPE = (64, 96, 3)
FRONT = "observation.images.front"


def moving(episode: int, length: int) -> np.ndarray:
    frames = np.full((length, *SHAPE), 40 + 30 * episode, np.uint8)
    for tick in range(length):
        frames[tick, 16:48, 8 * tick : 8 * tick + 32] = (250, 120, 30)
    return frames


@pytest.fixture
def record_videos(make_episode, interface, tmp_path):
    """Record two episodes whose camera 'front' is a video and whose camera 'wrist' is an image column."""
    cameras = {"front": SHAPE, "wrist": (8, 12, 3)}

    def recorded(*, name: str = "dataset", finished: bool = True) -> tuple[DatasetWriter, list[Episode]]:
        writer = DatasetWriter(
            tmp_path / name,
            interface=replace(interface, cameras=cameras),
            fps=20,
            robot_type="sim",
            env_id="e",
            video_cameras=["front"],
        )
        episodes = [
            replace(make_episode(index), images={"front": moving(index, 6), "wrist": make_episode(index).images["wrist"]})
            for index in range(2)
        ]
        for index, episode in enumerate(episodes):
            writer.add(index * 1001, episode)
        if finished:
            writer.finish()
        return writer, episodes

    return recorded


def test_an_episode_of_several_tasks_comes_back_with_the_prompt_of_every_frame(make_episode, record):
    prompts = ("pick the cup", "pick the cup", "place the cup", "pick the cup", "place the cup", "place the cup")
    episodes = [
        make_episode(0),
        make_episode(1, prompt="pick the cup", prompts=prompts),
        make_episode(2, prompt="place the cup"),
    ]
    dataset = record(dict(enumerate(episodes)))
    assert [loaded.digest() for loaded in dataset] == [episode.digest() for episode in episodes]
    assert dataset.catalog.tasks == ("push the cube", "pick the cup", "place the cup")
    assert [row.tasks for row in dataset.catalog.rows] == [
        ("push the cube",),
        ("pick the cup", "place the cup"),
        ("place the cup",),
    ]


def test_finishing_an_episode_of_several_tasks_again_gives_the_same_bytes(make_episode, record, open_writer):
    dataset = record({0: make_episode(0), 1: make_episode(1, prompt="b", prompts=("b", "c", "c", "b", "b", "c"))})
    before = {path: path.read_bytes() for path in dataset.root.rglob("*.*")}
    (dataset.root / layout.INFO_PATH).unlink()
    open_writer(dataset.root).finish()
    assert {path: path.read_bytes() for path in dataset.root.rglob("*.*")} == before


def test_a_camera_stored_as_video_comes_back_nearly_and_the_others_exactly(record_videos):
    writer, episodes = record_videos()
    dataset = Dataset(writer.root)
    for loaded, episode in zip(dataset, episodes, strict=True):
        difference = np.abs(loaded.images["front"].astype(int) - episode.images["front"])
        assert np.median(difference) <= 3
        assert (difference > 60).mean() < 0.02
        np.testing.assert_array_equal(loaded.images["wrist"], episode.images["wrist"])
        np.testing.assert_array_equal(loaded.sim_state, episode.sim_state)
    assert [info.digest for info in dataset.episodes] == [episode.digest() for episode in episodes]


def test_videos_are_described_as_lerobot_describes_them(record_videos, fixture_root):
    root = record_videos()[0].root
    ours, theirs = (json.loads((folder / "meta/info.json").read_text()) for folder in (root, fixture_root))
    assert ours["video_path"] == theirs["video_path"]
    same = {"video.fps": 20, "video.height": SHAPE[0], "video.width": SHAPE[1]}
    assert ours["features"][FRONT]["info"] == {**theirs["features"][FRONT]["info"], **same}
    our_rows, their_rows = (pq.read_table(folder / layout.EPISODES_PATH) for folder in (root, fixture_root))
    for field in their_rows.schema:
        if field.name.startswith((f"videos/{FRONT}", f"stats/{FRONT}")):
            assert our_rows.schema.field(field.name).type == field.type
    assert our_rows[f"videos/{FRONT}/chunk_index"].to_pylist() == [0, 1]
    assert our_rows[f"videos/{FRONT}/to_timestamp"].to_pylist() == [0.3, 0.3]
    data = pq.read_schema(root / layout.data_path(0))
    assert FRONT not in data.names
    assert FRONT not in json.loads(data.metadata[b"huggingface"])["info"]["features"]


def test_every_second_frame_of_a_video_is_a_key_frame(record_videos):
    root = record_videos()[0].root
    with av.open(str(root / layout.video_path(0, FRONT))) as container:
        stream = container.streams.video[0]
        keys = [packet.is_keyframe for packet in container.demux(stream) if packet.size]
        assert (stream.codec_context.name, stream.average_rate, keys) == ("libdav1d", 20, [True, False] * 3)


def test_a_video_whose_data_file_a_kill_prevented_is_no_episode_and_goes(record_videos):
    writer, _ = record_videos(finished=False)
    (writer.root / layout.data_path(1001)).unlink()
    torn = writer.root / (layout.video_path(2, FRONT) + ".partial")
    torn.write_bytes(b"torn by a kill")
    assert writer.recorded() == {0}
    writer.finish()
    videos = [str(path.relative_to(writer.root)) for path in sorted(writer.root.glob("videos/*/*/*"))]
    assert videos == [layout.video_path(0, FRONT)]
    assert len(Dataset(writer.root)) == 1


def test_a_recording_of_videos_that_is_copied_elsewhere_is_the_same_dataset(record_videos, tmp_path):
    root = record_videos()[0].root
    shutil.copytree(root, tmp_path / "copy")
    assert Dataset(tmp_path / "copy").dataset_id == Dataset(root).dataset_id


def test_frames_of_an_odd_size_are_refused_as_video():
    with pytest.raises(DataError, match=r"frames of 31 x 48 pixels cannot be stored as video; choose an even height"):
        encode(foreign.pixels(0, 3)[:, :31], fps=10)


def test_encoded_frames_are_found_by_a_plain_decoder(tmp_path: Path):
    (tmp_path / "video.mp4").write_bytes(encode(moving(0, 7), fps=10))
    assert foreign.decode_all(tmp_path / "video.mp4").shape == (7, *SHAPE)
