"""Recorded episodes come back as they were, whatever is killed, and in the layout that LeRobot reads."""

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
from opentau.errors import DataError
from opentau.types import Outcome, Source

DEMO, AUTO, HELP = Source.DEMONSTRATION, Source.AUTONOMOUS, Source.INTERVENTION


def files_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_every_column_and_constant_of_an_episode_comes_back_exactly(make_episode, record):
    episodes = {
        0: make_episode(0, (AUTO, AUTO, HELP, HELP, AUTO)),
        1: make_episode(1, (DEMO,), prompt="räume auf", outcome=Outcome.TIMEOUT, policy_version=""),
        2: make_episode(2, sim_state=np.zeros((6, 0))),
        3: make_episode(3, sim_state=np.random.default_rng(0).normal(size=(6, 9)), task_id="tabletop/1"),
    }
    dataset = record(episodes)
    assert [loaded.digest() for loaded in dataset] == [episode.digest() for episode in episodes.values()]
    assert [info.digest for info in dataset.episodes] == [episode.digest() for episode in episodes.values()]
    first = dataset.episodes[0]
    assert (first.length, first.num_intervention_steps, first.outcome, first.seed) == (5, 2, Outcome.SUCCESS, 2**62)
    assert dataset.interface.cameras == {"agentview": (16, 16, 3), "wrist": (8, 12, 3)}


def test_subtasks_come_back_frame_by_frame_and_are_numbered_over_the_dataset(make_episode, record):
    told = make_episode(0, subtasks=("reach", "reach", "grasp", "grasp", "", "lift"))
    episodes = {0: make_episode(1), 1: told, 2: make_episode(2, subtasks=("lift",) * 6)}
    dataset = record(episodes)
    assert [loaded.digest() for loaded in dataset] == [episode.digest() for episode in episodes.values()]
    assert dataset.load(0).subtasks == ()
    assert dataset.load(1).subtasks == told.subtasks
    table = pq.read_table(dataset.root / layout.SUBTASKS_PATH)
    assert table["subtask"].to_pylist() == ["", "reach", "grasp", "lift"]
    assert pq.read_table(dataset.root / layout.data_path(1))["subtask_index"].to_pylist() == [1, 1, 2, 2, 0, 3]
    plain = record({0: make_episode(0)}, name="plain")
    assert not (plain.root / layout.SUBTASKS_PATH).exists()
    assert "subtask_index" not in json.loads((plain.root / layout.INFO_PATH).read_text())["features"]


def test_states_and_actions_of_one_dimension_come_back_with_their_axis(make_episode, interface, tmp_path):
    narrow = replace(interface, cameras={}, action_names=("grip",), action_units=("1",))
    one = np.linspace(-1, 1, 6, dtype=np.float32)[:, None]
    episode = make_episode(0, images={}, action=one, policy_action=one, executed_action=one, sim_state=one.astype(np.float64))
    writer = DatasetWriter(tmp_path, interface=narrow, fps=20, robot_type="sim", env_id="e")
    writer.add(0, episode)
    writer.finish()
    assert Dataset(tmp_path).load(0).digest() == episode.digest()


def test_the_same_episodes_in_any_order_give_the_same_bytes(make_episode, record):
    episodes = {index: make_episode(index, prompt=f"task {index % 2}") for index in (0, 3, 1007)}
    forward = record(episodes, name="forward")
    backward = record(dict(reversed(episodes.items())), name="backward")
    assert files_of(forward.root) == files_of(backward.root)
    assert forward.dataset_id == backward.dataset_id
    assert record({0: make_episode(5)}, name="other").dataset_id != forward.dataset_id


def test_gaps_in_the_plan_close_when_the_dataset_is_finished(make_episode, record):
    dataset = record({7: make_episode(7), 2: make_episode(2), 1003: make_episode(3)})
    assert [episode.episode_id for episode in dataset] == ["collect-1/000002", "collect-1/000007", "collect-1/000003"]
    tables = [pq.read_table(path) for path in sorted(dataset.root.glob("data/*/*.parquet"))]
    index = np.concatenate([table[layout.INDEX].to_numpy() for table in tables])
    np.testing.assert_array_equal(index, np.arange(18))
    assert [table[layout.EPISODE_INDEX][0].as_py() for table in tables] == [0, 1, 2]


def test_committed_episodes_describe_themselves_before_the_dataset_is_finished(make_episode, open_writer, tmp_path):
    episode = make_episode(4, (AUTO, HELP))
    open_writer(tmp_path).add(4, episode)
    again = open_writer(tmp_path)
    info = again.info(4)
    assert again.recorded() == {4}
    assert (info.index, info.episode_id, info.digest, info.outcome) == (4, "collect-1/000004", episode.digest(), "success")
    with pytest.raises(DataError, match=r"is not finished \(1 data files are there\)"):
        Dataset(tmp_path)


def test_a_half_written_file_is_neither_counted_nor_kept(make_episode, open_writer, tmp_path):
    writer = open_writer(tmp_path)
    writer.add(0, make_episode(0))
    torn = tmp_path / "data/chunk-000/file-001.parquet.partial"
    torn.write_bytes(b"PAR1 torn by a kill")
    assert writer.recorded() == {0}
    writer.finish()
    assert not torn.exists()
    assert len(Dataset(tmp_path)) == 1


@pytest.mark.parametrize("num_done", [0, 1, 2, 3])
def test_finishing_again_after_a_kill_in_the_middle_gives_the_same_bytes(num_done, make_episode, open_writer, tmp_path):
    root, wanted_root = tmp_path / "killed", tmp_path / "wanted"
    episodes = [make_episode(0), make_episode(1, sim_state=np.ones((6, 8))), make_episode(2, prompt="other")]
    for index, episode in enumerate(episodes):
        open_writer(root).add(index, episode)
    shutil.copytree(root, wanted_root)
    open_writer(wanted_root).finish()
    # A kill leaves the files rewritten so far, each whole, and a part of meta/ without info.json.
    for path in sorted(wanted_root.glob("data/*/*"))[:num_done]:
        shutil.copy(path, root / path.relative_to(wanted_root))
    if num_done == 3:
        (root / "meta").mkdir()
        shutil.copy(wanted_root / "meta/stats.json", root / "meta/stats.json")
    open_writer(root).finish()
    assert files_of(root) == files_of(wanted_root)


def test_an_index_is_recorded_once_and_a_finished_dataset_takes_no_more(make_episode, open_writer, tmp_path):
    writer = open_writer(tmp_path)
    writer.add(0, make_episode(0))
    with pytest.raises(DataError, match="episode 0 is recorded already"):
        writer.add(0, make_episode(1))
    writer.finish()
    with pytest.raises(DataError, match="is finished, episode 1 cannot be added; record into a new dataset"):
        writer.add(1, make_episode(1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": np.full((6, 3), np.nan, np.float32)}, "state is not finite at frame 0"),
        ({"action": np.full((6, 2), np.inf, np.float32)}, "action is not finite at frame 0"),
        (
            {"state": np.zeros((6, 4), np.float32)},
            r"state is float32 \(6, 4\), the dataset's interface needs float32 \('T', 3\)",
        ),
        ({"state": np.zeros((6, 3))}, "state is float64"),
        ({"images": {}}, r"has the cameras \[\], the dataset \['agentview', 'wrist'\]"),
    ],
)
def test_an_unfit_episode_is_refused_and_leaves_nothing(change, message, make_episode, open_writer, tmp_path):
    writer = open_writer(tmp_path)
    with pytest.raises(DataError, match=message):
        writer.add(0, make_episode(0, **change))
    assert writer.recorded() == set()


def test_finishing_nothing_is_an_error(open_writer, tmp_path):
    with pytest.raises(DataError, match="has no episodes"):
        open_writer(tmp_path).finish()


def test_the_layout_has_the_features_and_types_that_lerobot_writes(make_episode, record, fixture_root):
    dataset = record({0: make_episode(0), 1: make_episode(1)})
    ours, theirs = (json.loads((root / "meta/info.json").read_text()) for root in (dataset.root, fixture_root))
    assert set(ours) == set(theirs)
    assert {key: type(value) for key, value in ours.items()} == {
        key: type(value) if key != "video_path" else type(None) for key, value in theirs.items()
    }
    for key in ("timestamp", "frame_index", "episode_index", "index", "task_index"):
        assert ours["features"][key] == theirs["features"][key]
    for key in ("observation.state", "action"):
        assert set(ours["features"][key]) == set(theirs["features"][key])
    assert ours["data_path"] == theirs["data_path"]

    our_data, their_data = (pq.read_schema(root / "data/chunk-000/file-000.parquet") for root in (dataset.root, fixture_root))
    for field in their_data:
        ours_type, theirs_type = our_data.field(field.name).type, field.type
        assert getattr(ours_type, "value_type", ours_type) == getattr(theirs_type, "value_type", theirs_type), field.name
    assert set(our_data.names) == set(ours["features"])
    hints = json.loads(our_data.metadata[b"huggingface"])["info"]["features"]
    assert hints["observation.images.wrist"] == {"_type": "Image"}
    assert hints["action"] == {"feature": {"dtype": "float32", "_type": "Value"}, "length": 2, "_type": "List"}


def test_the_metadata_tables_have_the_columns_and_types_that_lerobot_writes(make_episode, record, fixture_root):
    dataset = record({0: make_episode(0, prompt="b"), 1: make_episode(1, prompt="a")})
    ours, theirs = (pq.read_schema(root / layout.EPISODES_PATH) for root in (dataset.root, fixture_root))
    for field in theirs:
        if not field.name.startswith(("videos/", "stats/observation.images")):
            assert ours.field(field.name).type == field.type, field.name
    image = {field.name.rsplit("/", 1)[1]: field.type for field in theirs if "/observation.images.wrist/" in field.name}
    for stat in ("min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99"):
        assert ours.field(f"stats/observation.images.wrist/{stat}").type == image[stat]

    our_tasks, their_tasks = (pq.read_table(root / "meta/tasks.parquet") for root in (dataset.root, fixture_root))
    assert our_tasks.schema.equals(their_tasks.schema)
    our_pandas, their_pandas = (json.loads(tasks.schema.metadata[b"pandas"]) for tasks in (our_tasks, their_tasks))
    assert our_pandas["index_columns"] == their_pandas["index_columns"] == ["task"]
    assert our_pandas["columns"] == their_pandas["columns"]
    assert our_tasks["task"].to_pylist() == ["b", "a"]


def test_stats_json_holds_quantiles_of_the_data_and_pixels_in_0_to_1(make_episode, record, fixture_root):
    dataset = record({index: make_episode(index) for index in range(4)})
    ours, theirs = (json.loads((root / "meta/stats.json").read_text()) for root in (dataset.root, fixture_root))
    assert set(ours["action"]) == set(theirs["action"])
    assert np.shape(ours["observation.images.wrist"]["q01"]) == np.shape(theirs["observation.images.wrist"]["q01"]) == (3, 1, 1)
    actions = np.concatenate([episode.action for episode in dataset])
    np.testing.assert_array_equal(ours["action"]["q01"], np.quantile(actions, 0.01, axis=0, method="inverted_cdf"))
    assert ours["index"]["q50"] == [11.0]
    pixels = np.concatenate([episode.images["wrist"].reshape(-1, 3) for episode in dataset]) / 255
    np.testing.assert_allclose(np.ravel(ours["observation.images.wrist"]["mean"]), pixels.mean(axis=0))
    np.testing.assert_allclose(np.ravel(ours["observation.images.wrist"]["std"]), pixels.std(axis=0))
    assert ours["observation.images.wrist"]["count"] == [24]


def test_a_dataset_of_lerobot_reads_with_defaults_for_what_it_lacks(fixture_root):
    dataset = Dataset(fixture_root, with_images=False)
    assert len(dataset) == 20
    assert sum(info.length for info in dataset.episodes) == 3700
    assert dataset.interface.action_names == tuple(f"a{dim}" for dim in range(7))
    assert dataset.interface.cameras["wrist"] == (128, 128, 3)
    whole = pq.read_table(fixture_root / "data/chunk-000/file-000.parquet")
    episode = dataset.load(11)
    mask = whole["episode_index"].to_numpy() == 11
    np.testing.assert_array_equal(episode.state, np.array(whole["observation.state"].to_pylist(), np.float32)[mask])
    np.testing.assert_array_equal(episode.executed_action, episode.action)
    assert np.isnan(episode.policy_action).all()
    assert np.isnan(episode.value).all()
    assert (episode.source == Source.DEMONSTRATION).all()
    assert episode.outcome is Outcome.SUCCESS
    assert episode.reward.sum() == episode.reward[-1] == 1
    assert episode.prompt in (
        "pick the red block",
        "open the drawer",
        *pq.read_table(fixture_root / "meta/tasks.parquet")["task"].to_pylist(),
    )
