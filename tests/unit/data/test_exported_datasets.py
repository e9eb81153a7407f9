"""An export is complete or absent, holds what was chosen exactly, and passes every check."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from opentau.data.lerobot import layout
from opentau.data.lerobot.dataset import Dataset
from opentau.data.lerobot.writer import DatasetWriter
from opentau.data.tools.check import check
from opentau.data.tools.export import Exported, ExportOptions, export
from opentau.errors import DataError, OptionError, StorageError
from opentau.types import Outcome, Source
from tests.unit.data import foreign, recordings

NUM_NOISY = 40
"""Frames of noise an episode: three episodes of them do not fit into half a megabyte."""


def exported(root: Path, out: Path, **options: object) -> Exported:
    return export(root, out, options=ExportOptions(**options), on_episode=lambda done, total: None)


def codes(root: Path) -> list[str]:
    return [finding.code for finding in check(root, with_pixels=True, on_episode=lambda done, total: None).findings]


@pytest.fixture
def ours(make_episode, record) -> Path:
    """Two successes and a failure with help, one of them with two tasks."""
    prompts = ("pick",) * 3 + ("place",) * 3
    help_ = (Source.AUTONOMOUS,) * 4 + (Source.INTERVENTION,) * 2
    episodes = [
        make_episode(0),
        make_episode(1, prompt="pick", prompts=prompts),
        make_episode(2, help_, outcome=Outcome.FAILURE),
    ]
    return record(dict(enumerate(episodes)), name="ours").root


def test_an_export_of_ours_gives_back_equal_episodes(ours, tmp_path):
    result = exported(ours, tmp_path / "copy")
    digests = [episode.digest() for episode in Dataset(ours)]
    assert [episode.digest() for episode in Dataset(tmp_path / "copy")] == digests
    assert (result.num_episodes, result.num_frames, result.video_cameras, result.dropped_columns) == (3, 18, (), ())
    assert Dataset(tmp_path / "copy").dataset_id == Dataset(ours).dataset_id
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("write", [foreign.write_v21, foreign.write_v30])
def test_an_export_of_others_datasets_keeps_frames_tasks_and_pixels(write, tmp_path):
    root = write(tmp_path / "theirs")
    result = exported(root, tmp_path / "copy")
    theirs, copy = Dataset(root), Dataset(tmp_path / "copy")
    for before, after in zip(theirs, copy, strict=True):
        assert after.digest() == before.digest()
    assert copy.load(1).prompts == (foreign.TASKS[0],) * 3 + (foreign.TASKS[1],) * 4
    assert result.dropped_columns == ("subtask_index",)
    assert codes(tmp_path / "copy") == []


def test_recorded_success_and_interventions_are_kept(tmp_path):
    root = foreign.write_v21(tmp_path / "theirs")
    info = json.loads((root / "meta/info.json").read_text())
    flag = {"dtype": "bool", "shape": [1], "names": None}
    info["features"] |= {"next.success": flag, "complementary_info.is_intervention": flag}
    (root / "meta/info.json").write_text(json.dumps(info))
    for number, path in enumerate(sorted(root.glob("data/*/*.parquet"))):
        table = pq.read_table(path)
        done, helped = ([number == 1] * len(table), [tick < 2 for tick in range(len(table))])
        pq.write_table(
            table.append_column("next.success", [done]).append_column("complementary_info.is_intervention", [helped]), path
        )
    exported(root, tmp_path / "copy")
    copy = Dataset(tmp_path / "copy")
    assert [episode.outcome for episode in copy.episodes] == [Outcome.FAILURE, Outcome.SUCCESS, Outcome.FAILURE]
    assert copy.load(0).source.tolist() == [Source.INTERVENTION] * 2 + [Source.AUTONOMOUS] * 3
    exported(root, tmp_path / "successes", only_successes=True)
    assert [episode.episode_id for episode in Dataset(tmp_path / "successes").episodes] == ["000001"]


def test_episodes_are_chosen_excluded_and_ordered(ours, tmp_path):
    exported(ours, tmp_path / "copy", episodes=[2, 1, 0], exclude=[1])
    names = [episode.episode_id for episode in Dataset(tmp_path / "copy").episodes]
    assert names == ["collect-1/000002", "collect-1/000000"]
    exported(ours, tmp_path / "successes", only_successes=True)
    assert [episode.seed - 2**62 for episode in Dataset(tmp_path / "successes").episodes] == [0, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"episodes": [3]}, "there is no episode 3; the dataset has the episodes 0 to 2"),
        ({"exclude": [0, 1, 2]}, "no episode of .* is left to export"),
        ({"camera_names": {"wirst": "hand"}}, "there is no camera 'wirst' to rename. Did you mean 'wrist'"),
        ({"camera_names": {"wrist": "agentview"}}, "two cameras would have one name"),
        ({"image_size": 4}, "--image-size is 4; images need at least 8 pixels"),
    ],
)
def test_options_that_do_not_fit_are_named_and_leave_nothing(options, message, ours, tmp_path):
    with pytest.raises(OptionError, match=message):
        exported(ours, tmp_path / "copy", **options)
    assert not list(tmp_path.glob("copy*"))


def test_a_folder_that_exists_is_never_written_into(ours, tmp_path):
    (tmp_path / "copy").mkdir()
    with pytest.raises(OptionError, match="copy exists; choose another folder, or delete it"):
        exported(ours, tmp_path / "copy")


def test_cameras_are_renamed_and_made_smaller_in_proportion(tmp_path):
    root = recordings.record(tmp_path / "dataset", num_episodes=2)
    exported(root, tmp_path / "copy", image_size=16, camera_names={"front": "base"})
    before, after = Dataset(root), Dataset(tmp_path / "copy")
    assert after.interface.cameras == {"base": (12, 16, 3), "wrist": (16, 16, 3)}
    np.testing.assert_array_equal(after.frames(1, "wrist"), before.frames(1, "wrist"))
    small = before.frames(1, "front").reshape(-1, 12, 2, 16, 2, 3).mean(axis=(2, 4))
    assert np.abs(after.frames(1, "base") - small).mean() < 3
    assert codes(tmp_path / "copy") == []


def test_cameras_above_128_pixels_become_videos(tmp_path):
    shapes = {"front": (96, 160, 3), "wrist": (16, 16, 3)}
    root = recordings.record(tmp_path / "dataset", num_episodes=3, cameras=shapes)
    result = exported(root, tmp_path / "copy")
    assert result.video_cameras == ("front",)
    features = json.loads((tmp_path / "copy/meta/info.json").read_text())["features"]
    assert {key: feature["dtype"] for key, feature in features.items() if "images" in key} == {
        "observation.images.front": "video",
        "observation.images.wrist": "image",
    }
    before, after = Dataset(root), Dataset(tmp_path / "copy")
    for position in range(3):
        difference = np.abs(before.frames(position, "front").astype(int) - after.frames(position, "front"))
        assert np.median(difference) <= 3
        np.testing.assert_array_equal(after.frames(position, "wrist"), before.frames(position, "wrist"))
    assert codes(tmp_path / "copy") == []
    exported(tmp_path / "copy", tmp_path / "again", image_size=128)
    assert Dataset(tmp_path / "again").interface.cameras["front"] == (76, 128, 3)


def test_what_is_wrong_with_numbering_times_and_statistics_is_right_in_the_copy(tmp_path):
    root = recordings.record(tmp_path / "dataset", num_episodes=3)
    recordings.edit(root, 1, layout.TIMESTAMP, lambda times: times + 0.02)
    recordings.edit(root, 2, layout.INDEX, lambda numbers: numbers + 7)
    stats = json.loads((root / layout.STATS_PATH).read_text())
    stats["action"]["mean"][0] = 3.0
    (root / layout.STATS_PATH).write_text(json.dumps(stats))
    assert sorted(codes(root)) == ["index", "statistics", "timestamp"]
    result = exported(root, tmp_path / "copy")
    assert result.retimed_episodes == (1,)
    assert codes(tmp_path / "copy") == []


def test_an_episode_that_cannot_be_read_stops_the_export_and_says_how_to_go_on(ours, tmp_path):
    path = ours / layout.data_path(1)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"episode 1 \(collect-1/000001\).*To export the others: --exclude 1\."):
        exported(ours, tmp_path / "copy")
    assert not list(tmp_path.glob("copy*"))
    exported(ours, tmp_path / "copy", exclude=[1])
    assert len(Dataset(tmp_path / "copy")) == 2


def test_what_an_interrupted_export_left_is_removed_by_the_next(ours, tmp_path):
    left = tmp_path / "copy.partial" / layout.data_path(9)
    left.parent.mkdir(parents=True)
    left.write_bytes(b"torn by a kill")
    exported(ours, tmp_path / "copy")
    assert len(Dataset(tmp_path / "copy")) == 3
    assert not left.exists()


@pytest.mark.parametrize("side", [64, 160])
def test_a_full_disk_while_exporting_leaves_what_was_there_and_nothing_half(
    side, interface, make_episode, small_disk, tmp_path
):
    small = recordings.record(tmp_path / "small", num_episodes=2)
    exported(small, small_disk / "small")
    shape = (side, side, 3)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (NUM_NOISY, *shape), dtype=np.uint8)
    writer = DatasetWriter(
        tmp_path / "large", interface=replace(interface, cameras={"front": shape}), fps=20, robot_type="r", env_id="e"
    )
    for index in range(3):
        writer.add(index, replace(make_episode(index, (1,) * NUM_NOISY), images={"front": noise}))
    writer.finish()
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - 500_000))
    with pytest.raises(StorageError, match=r"No space left on device.*large was not written. Free some space and export again"):
        exported(tmp_path / "large", small_disk / "large")
    assert sorted(path.name for path in small_disk.iterdir()) == ["ballast", "small"]
    assert codes(small_disk / "small") == []

    ballast.unlink()
    exported(tmp_path / "large", small_disk / "large")
    assert len(Dataset(small_disk / "large")) == 3
