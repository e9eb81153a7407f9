"""Datasets of others read in place and exactly, in every layout, and what is wrong with one is named to the frame."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from opentau.data.lerobot.dataset import Dataset
from opentau.data.lerobot.video import decode_span
from opentau.errors import DataError
from opentau.types import Outcome, Source
from tests.unit.data import foreign

LAYOUTS = {
    "v2.1": foreign.write_v21,
    "v3.0 with H.264": foreign.write_v30,
    "v3.0 with AV1": lambda root: foreign.write_v30(root, codec="libsvtav1", has_named_index=False),
}


@pytest.fixture(params=LAYOUTS)
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return LAYOUTS[request.param](tmp_path / "dataset")


def test_every_layout_gives_the_same_episodes(root):
    dataset = Dataset(root)
    assert [info.length for info in dataset.episodes] == list(foreign.LENGTHS)
    assert dataset.interface.cameras == {"front": foreign.SIZE}
    assert dataset.interface.state_names == ("a", "b", "c")
    for number, episode in enumerate(dataset):
        wanted = foreign.columns(number, len(episode), first=0, task=[0] * len(episode))
        np.testing.assert_array_equal(episode.state, wanted["observation.state"])
        np.testing.assert_array_equal(episode.action, wanted["action"])
        assert episode.outcome is Outcome.SUCCESS
        # What a codec loses is small beside the change from frame to frame.
        difference = np.abs(episode.images["front"].astype(int) - foreign.pixels(number, len(episode)))
        assert np.median(difference) <= 3
        assert (difference > 60).mean() < 0.02


def test_an_episode_of_several_tasks_has_a_prompt_per_frame(root):
    first, second, _ = Dataset(root)
    assert first.prompts == ()
    assert first.prompt == foreign.TASKS[0]
    assert second.prompts == (foreign.TASKS[0],) * 3 + (foreign.TASKS[1],) * 4


def test_chosen_episodes_are_read_alone_and_keep_their_numbers(root):
    dataset = Dataset(root, episodes=[2, 0])
    assert [info.index for info in dataset.episodes] == [2, 0]
    np.testing.assert_array_equal(dataset.load(0).state[:, 0], 200 + np.arange(4))
    np.testing.assert_array_equal(dataset.frames(0, "front"), Dataset(root).load(2).images["front"])
    with pytest.raises(DataError, match=r"chosen episodes are \[3\]; choose from 0 to 2"):
        Dataset(root, episodes=[3])


def test_every_frame_of_a_lerobot_video_is_the_one_that_a_plain_decode_gives(fixture_root):
    dataset = Dataset(fixture_root)
    whole = {
        camera: foreign.decode_all(fixture_root / f"videos/observation.images.{camera}/chunk-000/file-000.mp4")
        for camera in ("front", "wrist")
    }
    start = 0
    for info in dataset.episodes:
        for camera, frames in whole.items():
            np.testing.assert_array_equal(dataset.frames(info.index, camera), frames[start : start + info.length])
        start += info.length
    assert start == 3700


def test_timestamps_and_tasks_of_a_lerobot_dataset_are_those_of_its_tables(fixture_root):
    tasks = pq.read_table(fixture_root / "meta/tasks.parquet").to_pylist()
    texts = {row["task_index"]: row["task"] for row in tasks}
    whole = pq.read_table(fixture_root / "data/chunk-000/file-000.parquet", columns=["episode_index", "task_index"]).to_pylist()
    wanted = {row["episode_index"]: texts[row["task_index"]] for row in whole}
    assert {info.index: info.prompt for info in Dataset(fixture_root).episodes} == wanted


def test_frames_are_found_by_their_times_wherever_a_video_starts(tmp_path):
    path = tmp_path / "video.mp4"
    foreign.write_video(path, foreign.pixels(0, 12))
    out = np.empty((3, *foreign.SIZE), np.uint8)
    decode_span(path, out, times_s=np.array([0.5, 0.7, 0.9]), fps=5, where="w", fix="f")
    np.testing.assert_array_equal(out, foreign.decode_all(path)[[5, 7, 9]])


def test_recorded_success_and_interventions_are_read(tmp_path):
    root = foreign.write_v21(tmp_path / "dataset")
    info = json.loads((root / "meta/info.json").read_text())
    flag = {"dtype": "bool", "shape": [1], "names": None}
    info["features"] |= {"next.success": flag, "complementary_info.is_intervention": flag}
    (root / "meta/info.json").write_text(json.dumps(info))
    for number, path in enumerate(sorted(root.glob("data/*/*.parquet"))):
        table = pq.read_table(path)
        done = [number == 1 and tick == len(table) - 1 for tick in range(len(table))]
        helped = [tick < 2 for tick in range(len(table))]
        table = table.append_column("next.success", [done]).append_column("complementary_info.is_intervention", [helped])
        pq.write_table(table, path)
    dataset = Dataset(root)
    assert [info.outcome for info in dataset.episodes] == [Outcome.FAILURE, Outcome.SUCCESS, Outcome.FAILURE]
    assert dataset.load(0).source.tolist() == [Source.INTERVENTION] * 2 + [Source.AUTONOMOUS] * 3


def damaged_video(root: Path) -> Path:
    return next(path for path in sorted(root.rglob("*.mp4")) if path.stem.endswith(("000", "001")))


def test_a_truncated_video_names_file_episode_and_frame(root):
    path = damaged_video(root)
    block = path.read_bytes()
    path.write_bytes(block[: len(block) // 2])
    with pytest.raises(DataError, match=r"episode 0 \(000000\), camera front, frame \d+: .*\.mp4 is missing or damaged"):
        Dataset(root).load(0)


def test_a_video_that_ends_early_names_the_first_frame_that_is_missing(tmp_path):
    root = foreign.write_v21(tmp_path / "dataset")
    foreign.write_video(damaged_video(root), foreign.pixels(0, 3))
    with pytest.raises(DataError, match=r"frame 3: .*episode_000000\.mp4 ends before 0\.3000 s; it is truncated"):
        Dataset(root).load(0)


def test_a_video_with_a_gap_is_not_filled_with_a_neighbour(tmp_path):
    root = foreign.write_v21(tmp_path / "dataset")
    foreign.write_video(damaged_video(root), foreign.pixels(0, 5), fps=5)
    with pytest.raises(DataError, match=r"frame 1: .* shows no frame at 0\.1000 s, the next one comes at 0\.2000 s"):
        Dataset(root).load(0)


def test_a_video_of_another_size_is_named(tmp_path):
    root = foreign.write_v21(tmp_path / "dataset")
    foreign.write_video(damaged_video(root), foreign.pixels(0, 5)[:, :16])
    with pytest.raises(DataError, match=r"frame 0: .* is \(16, 48, 3\), the dataset's features say \(32, 48, 3\)"):
        Dataset(root).load(0)


def test_a_missing_video_is_named(root):
    damaged_video(root).unlink()
    with pytest.raises(DataError, match=r"camera front, frame 0: .*\.mp4 is missing or damaged .*No such file"):
        Dataset(root).load(0)


def edit_rows(root: Path, episode: int, change) -> None:
    """Rewrite the data file that holds an episode."""
    for path in sorted(root.glob("data/*/*.parquet")):
        table = pq.read_table(path)
        if episode in table["episode_index"].to_pylist():
            pq.write_table(change(table), path)


def test_rows_of_an_episode_that_do_not_lie_together_are_refused(tmp_path):
    root = foreign.write_v30(tmp_path / "dataset")
    edit_rows(root, 0, lambda table: table.take([0, 6, 1, 7, *range(2, 6), *range(8, len(table))]))
    with pytest.raises(DataError, match=r"episode 0 .*the rows of episode_index 0 do not lie together"):
        Dataset(root, with_images=False).load(0)


def test_rows_in_another_order_are_refused(root):
    edit_rows(root, 0, lambda table: table.take([1, 0, *range(2, len(table))]))
    with pytest.raises(DataError, match=r"its frame_index does not count 0, 1, …"):
        Dataset(root, with_images=False).load(0)


@pytest.mark.parametrize("times", [[None] * 4, [0.0, 0.1, float("nan"), 0.3], [0.0, 0.2, 0.1, 0.3]])
def test_timestamps_that_do_not_ascend_are_refused_and_no_other_picture_is_shown(times, root):
    def with_times(table):
        column = [times[tick] if episode == 2 else tick / 10 for episode, tick in zip(
            table["episode_index"].to_pylist(), table["frame_index"].to_pylist(), strict=True)]  # fmt: skip
        return table.set_column(table.column_names.index("timestamp"), "timestamp", pa.array(column, pa.float32()))

    edit_rows(root, 2, with_times)
    with pytest.raises(DataError, match=r"episode 2 .*the timestamp of frame \d is"):
        Dataset(root).load(2)


def test_a_shape_that_contradicts_info_json_is_named(root):
    info = json.loads((root / "meta/info.json").read_text())
    info["features"]["action"]["shape"] = [6]
    (root / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(DataError, match=r"episode 0 .*column action does not hold 6 numbers in every frame"):
        Dataset(root).load(0)


def test_rows_of_several_lengths_are_named_even_where_their_sum_is_right(tmp_path):
    root = foreign.write_v21(tmp_path / "dataset")
    path = next(root.rglob("episode_000000.parquet"))
    table = pq.read_table(path)
    rows = table["action"].to_pylist()
    rows[0], rows[1] = [*rows[0], 1.0], rows[1][:1]
    place = table.schema.get_field_index("action")
    pq.write_table(table.set_column(place, table.field(place), pa.array(rows, table.field(place).type)), path)
    with pytest.raises(DataError, match=r"episode 0 .*column action does not hold 2 numbers in every frame"):
        Dataset(root).load(0)


def test_a_damaged_line_of_a_description_is_named(tmp_path):
    root = foreign.write_v21(tmp_path / "dataset")
    path = root / "meta/episodes.jsonl"
    path.write_text(path.read_text().replace('"length": 7', '"lenght": 7'))
    with pytest.raises(DataError, match=r"episodes\.jsonl is missing or damaged \(line 2 has no 'length'\)"):
        Dataset(root)


@pytest.mark.parametrize("version", ["v1.6", "v4.0", None])
def test_another_version_of_the_layout_is_refused_with_the_way_out(version, root):
    info = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps(info | {"codebase_version": version}))
    with pytest.raises(DataError, match=rf"has the layout {version!r}, this reads v2\.0, v2\.1, v3\.0; convert it"):
        Dataset(root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data_path": "/etc/passwd"}, r"data_path is '/etc/passwd'; it must lie within the dataset"),
        ({"data_path": "../{episode_index}.parquet"}, r"it must lie within the dataset"),
        ({"data_path": "{chunk_index.__class__}"}, r"it may hold chunk_index, .*, not 'chunk_index\.__class__'"),
        ({"data_path": "data/{foo}.parquet"}, r"not 'foo'"),
        ({"video_path": None}, r"video_path is None; it must say where files lie"),
    ],
)
def test_paths_that_lead_elsewhere_are_refused(change, message, root):
    info = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps(info | change))
    with pytest.raises(DataError, match=message):
        Dataset(root)


def test_a_feature_whose_name_is_a_path_is_refused(root):
    info = json.loads((root / "meta/info.json").read_text())
    info["features"]["observation.images.x/../../evil"] = info["features"][foreign.CAMERA]
    (root / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(DataError, match=r"feature 'observation\.images\.x/\.\./\.\./evil' is no name"):
        Dataset(root)


def test_edited_tasks_make_another_dataset(tmp_path):
    root = foreign.write_v30(tmp_path / "dataset")
    before = Dataset(root).dataset_id
    pq.write_table(pa.table({"task_index": [0, 1], "task": ["pick the mug", "place the mug"]}), root / "meta/tasks.parquet")
    assert Dataset(root).dataset_id != before


def test_depth_is_no_camera(root):
    info = json.loads((root / "meta/info.json").read_text())
    info["features"]["observation.images.depth"] = info["features"][foreign.CAMERA] | {"shape": [32, 48, 1]}
    (root / "meta/info.json").write_text(json.dumps(info))
    if info["codebase_version"] == "v2.1":
        assert list(Dataset(root).interface.cameras) == ["front"]


def test_the_decoder_that_reads_av1_comes_with_the_installed_package():
    assert "libdav1d" in av.codecs_available
