"""A sound dataset gives no finding; every kind of damage gives its own, with where it is, the value and the fix."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from opentau.data.lerobot import layout
from opentau.data.tools.check import check
from opentau.data.tools.findings import Severity
from tests.unit.data import foreign, recordings
from tests.unit.data.recordings import edit, findings_of, only

WRIST = "observation.images.wrist"


def change_info(root: Path, change: Callable[[dict], None], *, name: str = layout.INFO_PATH) -> None:
    info = json.loads((root / name).read_text())
    change(info)
    (root / name).write_text(json.dumps(info))


# --- sound datasets


def test_a_sound_dataset_gives_no_finding(recorded):
    done = []
    report = check(recorded, with_pixels=True, on_episode=lambda *counts: done.append(counts))
    assert report.findings == ()
    assert done == [(number, 8) for number in range(1, 9)]


def test_a_dataset_of_lerobot_gives_no_finding(fixture_root):
    assert findings_of(fixture_root, with_pixels=False) == ()


@pytest.mark.parametrize("write", [foreign.write_v21, foreign.write_v30])
def test_datasets_of_others_lack_nothing_but_statistics(write, tmp_path):
    found = findings_of(write(tmp_path / "dataset"))
    assert [(finding.code, finding.dimension) for finding in found] == [
        ("no-statistics", "observation.state"),
        ("no-statistics", "action"),
    ]


# --- meta/ and files


def test_an_unknown_version_is_an_error(sound):
    change_info(sound, lambda info: info.update(codebase_version="v9.0"))
    assert "codebase_version is 'v9.0', known are v2.0, v2.1, v3.0" in only(sound, "version").text


def test_metadata_that_cannot_be_read_is_a_finding(sound):
    path = sound / layout.EPISODES_PATH
    path.write_bytes(path.read_bytes()[:200])
    assert str(path) in only(sound, "metadata").text


def test_metadata_that_makes_no_sense_is_a_finding(sound):
    change_info(sound, lambda info: info["features"]["action"].pop("dtype"))
    assert "info.json is missing or damaged (feature action has no dtype)" in only(sound, "metadata").text


NONSENSE = ("deleted", None, "x", -1)


def places_in(plain: dict, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in plain.items():
        yield (*before, key)
        if isinstance(value, dict):
            yield from places_in(value, (*before, key))


@pytest.mark.parametrize("nonsense", NONSENSE, ids=str)
def test_whatever_stands_in_info_json_the_check_answers_with_findings(nonsense, tmp_path):
    root = recordings.record(tmp_path / "dataset", num_episodes=1)
    whole = json.loads((root / layout.INFO_PATH).read_text())
    for place in places_in(whole):
        plain = json.loads(json.dumps(whole))
        parent = plain
        for key in place[:-1]:
            parent = parent[key]
        parent[place[-1]] = nonsense
        if nonsense == "deleted":
            del parent[place[-1]]
        (root / layout.INFO_PATH).write_text(json.dumps(plain))
        check(root, with_pixels=False, on_episode=lambda done, total: None)


@pytest.mark.parametrize(
    ("name", "text", "code", "message"),
    [
        (layout.EXTRAS_PATH, "{}", "metadata", "its interface is none: 'interface'"),
        (layout.STATS_PATH, '{"action": {"mean": ["a"]}}', "statistics", "could not convert string"),
        (layout.STATS_PATH, "[", "statistics", "stats.json is missing or damaged"),
    ],
)
def test_other_descriptions_that_make_no_sense_are_findings(name, text, code, message, sound):
    (sound / name).write_text(text)
    assert message in only(sound, code).text


@pytest.mark.parametrize(("column", "message"), [("length", "of None frames"), ("digest", "it lacks what was recorded")])
def test_a_list_of_episodes_with_holes_is_a_finding(column, message, sound):
    table = pq.read_table(sound / layout.EPISODES_PATH)
    place = table.schema.get_field_index(column)
    holes = table.set_column(place, table.field(place), pa.nulls(8, table.field(place).type))
    pq.write_table(holes if column == "length" else table.drop_columns([column]), sound / layout.EPISODES_PATH)
    assert message in only(sound, "metadata").text


@pytest.mark.parametrize(("name", "true"), [("total_episodes", 8), ("total_frames", 480), ("total_tasks", 1)])
def test_wrong_counts_are_named(name, true, sound):
    change_info(sound, lambda info: info.update({name: 77}))
    assert only(sound, "count").text == f"{name} is 77, the episodes and tasks listed in meta/ make {true}"


def test_a_wrong_start_of_an_episode_is_named(sound):
    table = pq.read_table(sound / layout.EPISODES_PATH)
    starts = table["dataset_from_index"].to_pylist()
    place = table.schema.get_field_index("dataset_from_index")
    wrong = pa.array([*starts[:3], 181, *starts[4:]])
    pq.write_table(table.set_column(place, "dataset_from_index", wrong), sound / layout.EPISODES_PATH)
    finding = only(sound, "count")
    assert finding.text == "dataset_from_index of episode 3 is 181, the episodes before it have 180 frames"
    assert finding.episodes == (3,)


def test_a_missing_file_is_named_and_the_others_are_checked(sound):
    (sound / layout.data_path(2)).unlink()
    edit(sound, 5, layout.FRAME_INDEX, np.flip)
    missing, numbering = findings_of(sound)
    assert (missing.code, missing.path, missing.episodes) == ("missing-file", layout.data_path(2), (2,))
    assert (numbering.code, numbering.episodes) == ("frame-index", (5,))


def test_a_truncated_data_file_is_named(sound):
    path = sound / layout.data_path(4)
    path.write_bytes(path.read_bytes()[:-100])
    finding = only(sound, "damaged-file")
    assert "file-004.parquet is no whole parquet file; 1 episodes lie in it" in finding.text


def test_a_flipped_bit_is_named_by_episode(sound):
    path = sound / layout.data_path(4)
    column = pq.ParquetFile(path).metadata.row_group(0)
    places = {column.column(number).path_in_schema: column.column(number) for number in range(column.num_columns)}
    chunk = places[f"{layout.STATE}.list.element"]
    block = bytearray(path.read_bytes())
    block[chunk.data_page_offset + chunk.total_compressed_size - 3] ^= 4
    path.write_bytes(block)
    finding = only(sound, "unreadable")
    assert finding.episodes == (4,)
    assert "checksum" in finding.text.lower() or "crc" in finding.text.lower()


def test_a_missing_column_is_named(sound):
    path = sound / layout.data_path(1)
    pq.write_table(pq.read_table(path).drop_columns([layout.ACTION]), path)
    assert "file-001.parquet has no column action, which meta/info.json lists" in only(sound, "missing-column").text


@pytest.mark.parametrize("column", [layout.ACTION, layout.EPISODE_INDEX, layout.SOURCE, WRIST])
def test_a_column_of_another_type_is_named(column, sound):
    path = sound / layout.data_path(1)
    table = pq.read_table(path)
    texts = pa.array(["text"] * len(table))
    pq.write_table(table.set_column(table.schema.get_field_index(column), column, texts), path)
    finding = only(sound, "column-type")
    assert f"file-001.parquet: column {column} holds string, meta/info.json says" in finding.text
    assert finding.episodes == (1,)


def test_missing_numbers_are_named(sound):
    path = sound / layout.data_path(1)
    table = pq.read_table(path)
    place = table.schema.get_field_index(layout.SOURCE)
    numbers = pa.array([None if tick == 7 else 0 for tick in range(len(table))], pa.int8())
    pq.write_table(table.set_column(place, table.field(place), numbers), path)
    assert only(sound, "not-finite").text == "source 0 of episode 1, frame 7 is nan; 1 frames are like that"


def test_a_missing_video_is_named_even_without_pixels(tmp_path):
    root = foreign.write_v21(tmp_path / "dataset")
    next(root.rglob("episode_000001.mp4")).unlink()
    found = findings_of(root, with_pixels=False)
    assert (found[0].code, found[0].episodes) == ("missing-file", (1,))


def test_a_truncated_video_is_named_even_without_pixels(tmp_path):
    root = foreign.write_v21(tmp_path / "dataset")
    path = next(root.rglob("episode_000001.mp4"))
    path.write_bytes(path.read_bytes()[:500])
    found = findings_of(root, with_pixels=False)
    assert (found[0].code, found[0].path) == ("damaged-file", str(path.relative_to(root)))


def test_a_video_that_ends_before_its_episodes_is_named(tmp_path):
    root = foreign.write_v30(tmp_path / "dataset")
    path = root / f"videos/{foreign.CAMERA}/chunk-000/file-001.mp4"
    foreign.write_video(path, foreign.pixels(1, 8))
    found = findings_of(root)
    assert "file-001.mp4 has 8 frames at 10 Hz, which is 0.80 s; its episodes end at 1.10 s" in found[0].text
    assert (found[0].code, found[0].episodes) == ("short-video", (2,))


def test_a_shape_that_is_not_the_datas_is_named(sound):
    change_info(sound, lambda info: info["features"]["action"].update(shape=[5]))
    found = [finding for finding in findings_of(sound) if finding.code == "shape"]
    assert "action has 4 numbers a frame in data/chunk-000/file-000.parquet, meta/info.json says [5]" in found[0].text


def test_rows_of_another_width_are_named_in_old_layouts(tmp_path):
    root = foreign.write_v21(tmp_path / "dataset")
    change_info(root, lambda info: info["features"]["action"].update(shape=[6]))
    found = [finding for finding in findings_of(root) if finding.code == "unreadable"]
    assert [finding.episodes for finding in found] == [(0,), (1,), (2,)]
    assert "action does not hold 6 numbers in every frame" in found[0].text


# --- rows


def test_another_number_of_frames_than_meta_says_is_named(sound):
    path = sound / layout.data_path(3)
    pq.write_table(pq.read_table(path).slice(0, 50), path)
    assert "holds 50 frames of episode 3, meta/ says 60" in only(sound, "episode-length").text


def test_timestamps_that_are_not_the_frames_are_named(sound):
    edit(sound, 2, layout.TIMESTAMP, lambda times: times + 0.01)
    finding = only(sound, "timestamp")
    assert finding.text == "timestamp of episode 2, frame 0 is 0.0100 s, at 20 Hz it is 0.0000 s"


def test_a_gap_in_time_is_named_by_frame(sound):
    edit(sound, 2, layout.TIMESTAMP, lambda times: times + 0.5 * (np.arange(60) >= 30))
    finding = only(sound, "time-gap")
    assert (finding.episodes, finding.frame) == ((2,), 30)
    assert "between frames 29 and 30 of episode 2 lie 0.5500 s, at 20 Hz it is 0.0500 s" in finding.text


def test_float32_times_of_long_episodes_are_no_finding():
    from opentau.data.tools.check_rows import EpisodeRows, _times

    times = (np.arange(200_000) / 30).astype(np.float32)[:, None]
    assert list(_times(EpisodeRows(index=0, path="p", columns={layout.TIMESTAMP: times}), fps=30)) == []


@pytest.mark.parametrize(("column", "code"), [(layout.FRAME_INDEX, "frame-index"), (layout.INDEX, "index")])
def test_numbers_of_frames_that_do_not_count_are_named(column, code, sound):
    edit(sound, 1, column, lambda numbers: numbers + (np.arange(60) >= 7))
    finding = only(sound, code)
    assert (finding.episodes, finding.frame, finding.path) == ((1,), 7, layout.data_path(1))
    assert f"{column} of episode 1, frame 7 is" in finding.text


@pytest.mark.parametrize(("feature", "dim", "name"), [(layout.STATE, 1, "y"), (layout.ACTION, 3, "gripper")])
def test_numbers_that_are_not_finite_are_named_by_frame_and_dimension(feature, dim, name, sound):
    def damage(rows: np.ndarray) -> np.ndarray:
        rows[[7, 9], dim] = np.nan
        return rows

    edit(sound, 6, feature, damage)
    finding = only(sound, "not-finite")
    assert finding.text == f"{feature} {dim} ({name}) of episode 6, frame 7 is nan; 2 frames are like that"


def test_a_task_that_meta_does_not_list_is_named(sound):
    edit(sound, 0, layout.TASK_INDEX, lambda tasks: tasks + 4)
    assert "task_index of episode 0, frame 0 is 4, meta/ lists the tasks 0 to 0" in only(sound, "task").text


# --- dimensions, statistics, lengths, duplicates


def test_a_dimension_that_never_moves_is_named(damaged):
    def still(index, columns):
        columns["state"][:, 2] = 0.25

    finding = only(damaged(still), "dead-dimension")
    assert finding.severity is Severity.WARNING
    assert finding.text == "observation.state 2 (z) is 0.25 in all 480 frames"


def test_a_dimension_that_rests_in_single_episodes_is_named(damaged):
    def still(index, columns):
        if index == 3:
            columns["state"][:, 1] = 0.125

    # One episode of twenty: where a tenth rests, resting is usual.
    finding = only(damaged(still, num_episodes=20), "still-dimension")
    assert finding.text == "observation.state 1 (y) stays at 0.125 in episode 3; it moves in the others"


def test_a_dimension_that_often_rests_is_no_finding(damaged):
    def still(index, columns):
        if index % 2:
            columns["state"][:, 1] = 0.125

    assert findings_of(damaged(still)) == ()


@pytest.mark.parametrize(
    ("statistic", "change", "message"),
    [
        ("min", 0.5, "says min"),
        ("max", -0.5, "says max"),
        ("mean", 0.1, "says mean"),
        ("std", 0.1, "says std"),
    ],
)
def test_statistics_that_contradict_the_data_are_named(statistic, change, message, sound):
    def damage(stats):
        stats["action"][statistic][1] += change

    change_info(sound, damage, name=layout.STATS_PATH)
    finding = only(sound, "statistics")
    assert message in finding.text
    assert finding.dimension == "action 1 (dy)"


def test_quantiles_that_are_averages_are_no_finding(sound):
    change_info(sound, lambda stats: stats["action"]["q01"].__setitem__(1, -0.1), name=layout.STATS_PATH)
    assert findings_of(sound) == ()


def test_statistics_of_every_episode_are_added_up_in_the_layout_v21(tmp_path):
    root = foreign.write_v21(tmp_path / "dataset")
    lines = []
    for episode, length in enumerate(foreign.LENGTHS):
        columns = foreign.columns(episode, length, first=0, task=[0] * length)
        stats = {
            name: {
                **{each: getattr(columns[name], each)(axis=0).tolist() for each in ("min", "max", "mean", "std")},
                "count": [length],
            }
            for name in ("observation.state", "action")
        }
        lines.append(json.dumps({"episode_index": episode, "stats": stats}))
    path = root / "meta/episodes_stats.jsonl"
    path.write_text("\n".join(lines))
    assert findings_of(root) == ()
    path.write_text("\n".join(lines).replace('"max": [206', '"max": [306').replace('"min": [0.0', '"min": [1.0'))
    assert {finding.code for finding in findings_of(root)} == {"statistics"}


def test_a_very_short_episode_is_named(damaged):
    def cut(index, columns):
        if index == 4:
            columns["state"], columns["action"] = columns["state"][:3], columns["action"][:3]

    finding = only(damaged(cut), "short-episode")
    assert finding.text == "episode 4 has 3 frames, half of the episodes have 60 or more"


def test_an_empty_episode_is_named(tmp_path):
    root = foreign.write_v21(tmp_path / "dataset")
    path = root / "meta/episodes.jsonl"
    path.write_text(path.read_text().replace('"length": 7', '"length": 0'))
    change_info(root, lambda info: info.update(total_frames=9))
    codes = {finding.code: finding.episodes for finding in findings_of(root, with_pixels=False)}
    assert codes["empty-episode"] == (1,)


def test_an_episode_that_is_there_twice_is_named(damaged):
    def double(index, columns):
        if index == 7:
            columns.update(recordings.columns_of(2, shapes={}))

    finding = only(damaged(double), "duplicate")
    assert finding.text == "episode 7 has the same states and actions as episode 2"
    assert finding.episodes == (2, 7)


@pytest.mark.parametrize(("first", "words"), [(6, "6 frames earlier"), (-6, "6 frames later")])
def test_an_episode_that_is_there_twice_but_shifted_is_named(first, words, damaged):
    def shift(index, columns):
        if index == 7:
            whole = recordings.columns_of(2, shapes={})
            for name in ("state", "action"):
                rows = whole[name]
                columns[name] = np.concatenate([rows[6:], rows[:6] + 1] if first > 0 else [rows[:6] + 1, rows[:-6]])

    finding = only(damaged(shift), "near-duplicate")
    assert finding.text.startswith("episode 7 repeats ")
    assert finding.text.endswith(f"% of episode 2, {words}")


# --- actions


def test_a_gripper_that_moves_the_other_way_in_some_episodes_is_named(damaged):
    def invert(index, columns):
        if index in (1, 6):
            columns["action"][:, 3] *= -1

    finding = only(damaged(invert), "inverted-gripper")
    assert (finding.severity, finding.episodes) == (Severity.ERROR, (1, 6))
    assert "action 3 (gripper) moves the gripper the other way in episodes 1 and 6" in finding.text


def test_a_gripper_that_contradicts_its_unit_is_named(tmp_path):
    root = recordings.record(tmp_path / "dataset", cameras={}, action_units=("0.05 m",) * 3 + ("-1 close, 1 open",))
    finding = only(root, "gripper-convention")
    assert "action 3 (gripper) closes the gripper where it grows" in finding.text
    assert "its name or unit says it opens it" in finding.text


def test_absolute_actions_that_are_declared_as_deltas_are_named(damaged):
    def absolute(index, columns):
        columns["action"][:-1, :3] = columns["state"][1:, :3]
        columns["action"][-1, :3] = columns["state"][-1, :3]

    finding = only(damaged(absolute), "action-space")
    assert "actions are declared as delta, but action 0 (dx) is observation.state 0 (x) after it" in finding.text
    assert "Declare the actions as absolute" in finding.fix


def test_deltas_that_are_declared_as_absolute_actions_are_named(tmp_path):
    names = ("x", "y", "z", "gripper")
    finding = only(
        recordings.record(tmp_path / "dataset", cameras={}, action_space="absolute_ee", action_names=names), "action-space"
    )
    assert "actions are declared as absolute, but action 0 (x) is the change of observation.state 0 (x)" in finding.text


def test_names_alone_declare_deltas(damaged):
    def absolute(index, columns):
        columns["action"][:-1, :3] = columns["state"][1:, :3]
        columns["action"][-1, :3] = columns["state"][-1, :3]

    root = damaged(absolute, action_space="unknown")
    assert only(root, "action-space").severity is Severity.ERROR
    shutil.rmtree(root)
    assert findings_of(damaged(absolute, action_space="unknown", action_names=("x", "y", "z", "gripper"))) == ()
