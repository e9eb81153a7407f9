"""What info, stats and view say of a dataset is what is in it."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from PIL import Image

from opentau.data.lerobot import layout
from opentau.data.tools.choice import parse_episodes
from opentau.data.tools.describe import describe
from opentau.data.tools.drawing import Curve, curve_picture, text_picture
from opentau.data.tools.measure import measure
from opentau.data.tools.recording import write_recording
from opentau.data.tools.sheet import default_episodes, write_sheet
from opentau.errors import DataError, OptionError
from opentau.types import Outcome, Source
from tests.unit.data import foreign, recordings


def ignore(done: int, total: int) -> None: ...


def test_info_counts_episodes_frames_outcomes_sources_and_tasks(make_episode, record):
    half = (Source.AUTONOMOUS,) * 4 + (Source.INTERVENTION,) * 2
    episodes = {
        0: make_episode(0, half),
        1: make_episode(1, outcome=Outcome.TIMEOUT, prompt="lift"),
        2: make_episode(2, prompt="lift", prompts=("lift",) * 2 + ("drop",) * 4),
    }
    description = describe(record(episodes).root)
    assert (description.version, description.is_ours, description.num_episodes, description.num_frames) == ("v3.0", True, 3, 18)
    assert description.outcomes == {"success": 2, "timeout": 1}
    assert description.sources == {"autonomous": 16, "intervention": 2}
    assert description.tasks == {"lift": 2, "push the cube": 1, "drop": 1}
    assert description.hours == 18 / 20 / 3600
    assert [(camera.name, camera.shape, camera.codec) for camera in description.cameras] == [
        ("agentview", (16, 16, 3), "images"),
        ("wrist", (8, 12, 3), "images"),
    ]
    json.dumps(description.to_dict())


def test_info_of_others_says_codec_names_and_that_all_are_demonstrations(tmp_path):
    root = foreign.write_v21(tmp_path / "dataset")
    description = describe(root)
    assert (description.version, description.robot_type, description.is_ours) == ("v2.1", "so100", False)
    assert description.cameras[0].codec == "h264"
    assert description.sources == {"demonstration": 16}
    assert description.state_names == ("a", "b", "c")
    assert description.bytes == sum(path.stat().st_size for path in root.rglob("*.*") if path.is_file())


def test_stats_are_those_of_the_data_and_agree_with_what_a_recording_states(tmp_path):
    root = recordings.record(tmp_path / "dataset")
    state, action = measure(root, episodes=None, on_episode=ignore)
    rows = np.concatenate([recordings.columns_of(index)["action"] for index in range(8)])
    np.testing.assert_allclose(action.found.mean, rows.mean(axis=0, dtype=np.float64), atol=1e-12)
    np.testing.assert_array_equal(action.found.q10, np.quantile(rows, 0.1, axis=0, method="inverted_cdf"))
    assert (state.feature, state.names, state.found.count) == (layout.STATE, ("x", "y", "z", "gripper"), 480)
    assert state.contradictions == action.contradictions == ()
    assert action.stated["mean"] == list(action.found.mean)


def test_stats_name_every_number_that_contradicts_and_call_quantiles_a_remark(tmp_path):
    root = recordings.record(tmp_path / "dataset")
    stats = json.loads((root / layout.STATS_PATH).read_text())
    stats["action"]["min"][0] += 0.01
    stats["action"]["std"][1] *= 1.02
    stats["action"]["mean"][2] += 0.005 * stats["action"]["std"][2]
    stats["action"]["max"][2] += 5.0
    stats["action"]["q99"][2] *= 0.5
    (root / layout.STATS_PATH).write_text(json.dumps(stats))
    _, action = measure(root, episodes=None, on_episode=ignore)
    assert [(each.dimension, each.statistic, each.is_remark) for each in action.contradictions] == [
        ("action 0 (dx)", "min", False),
        ("action 1 (dy)", "std", False),
        ("action 2 (dz)", "q99", True),
    ]


def test_stats_of_another_number_of_dimensions_contradict_as_a_whole(tmp_path):
    root = recordings.record(tmp_path / "dataset")
    stats = json.loads((root / layout.STATS_PATH).read_text())
    stats["action"]["min"].pop()
    (root / layout.STATS_PATH).write_text(json.dumps(stats))
    (contradiction,) = measure(root, episodes=None, on_episode=ignore)[1].contradictions
    assert (contradiction.statistic, contradiction.stated, contradiction.found) == ("dimensions", 3, 4)


def test_chosen_episodes_are_measured_alone_and_compared_with_nothing(tmp_path):
    root = recordings.record(tmp_path / "dataset")
    _, action = measure(root, episodes=[3], on_episode=ignore)
    np.testing.assert_allclose(action.found.maximum, recordings.columns_of(3)["action"].max(axis=0))
    assert action.stated == {}
    assert action.contradictions == ()


def test_stats_of_numbers_that_are_not_finite_name_the_episode(tmp_path):
    root = recordings.record(tmp_path / "dataset")
    recordings.edit(root, 5, layout.ACTION, lambda rows: np.where(np.arange(60)[:, None] == 7, np.nan, rows))
    with pytest.raises(DataError, match=r"episode 5 .*: action: row 7, dimension 0 is nan.*opentau data check"):
        measure(root, episodes=None, on_episode=ignore)


@pytest.mark.parametrize(
    ("text", "wanted"), [("3", [3]), ("0-2, 7", [0, 1, 2, 7]), ("5,1,5", [5, 1]), ("9-9,", [9]), ("4-6,5-7", [4, 5, 6, 7])]
)
def test_episodes_are_chosen_in_words(text, wanted):
    assert parse_episodes(text, num_episodes=10) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "'a' is no episode; write episodes as 0,3,8-12"),
        ("3-", "'3-' is no episode"),
        ("-3", "'-3' is no episode"),
        (",", "chooses no episode"),
        ("6-4", "chooses no episode"),
        ("8-12", "there is no episode 10; the dataset has the episodes 0 to 9"),
    ],
)
def test_what_chooses_no_episode_is_answered_with_how_to_write_it(text, message):
    with pytest.raises(OptionError, match=message):
        parse_episodes(text, num_episodes=10)


def test_a_sheet_shows_the_frames_of_its_episodes(tmp_path):
    root = recordings.record(tmp_path / "dataset", num_episodes=3)
    size = write_sheet(root, tmp_path / "sheet.png", episodes=[0, 2], on_episode=ignore)
    both = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert both.shape == (size[1], size[0], 3)
    colours = {tuple(colour) for colour in both.reshape(-1, 3)}
    assert set(recordings.GROUNDS.values()) <= colours
    write_sheet(root, tmp_path / "one.png", episodes=[0], cameras=["wrist"], on_episode=ignore)
    one = np.asarray(Image.open(tmp_path / "one.png"))
    assert one.shape[0] < both.shape[0] / 2
    assert recordings.GROUNDS["front"] not in {tuple(colour) for colour in one.reshape(-1, 3)}
    assert not list(tmp_path.glob("*.partial"))


def test_a_curve_is_drawn_where_its_values_are_and_shaded_where_somebody_helped():
    values = np.linspace(0, 1, 50)
    shaded = np.arange(50) >= 40
    pixels = np.asarray(curve_picture(Curve(title="t", values_T=values, low=0, high=1, shaded_T=shaded), width=200, height=90))
    blue = (pixels[..., 2].astype(int) - pixels[..., 0] > 60) & (np.arange(90)[:, None] > 20)
    rows, columns = np.nonzero(blue)
    assert np.corrcoef(rows, columns)[0, 1] < -0.99  # rises: rows count downwards
    sand = (pixels == (0xFB, 0xE3, 0xC4)).all(axis=-1)
    assert sand[:, 165:185].any()
    assert not sand[:, :140].any()


def test_text_that_is_too_long_is_cut():
    pixels = np.asarray(text_picture("-" * 400, width=200))
    assert pixels.shape[1] == 200
    dashes = np.flatnonzero((pixels[:, :100] < 255).any(axis=(1, 2)))
    below = np.flatnonzero((pixels[dashes.max() + 1 :] < 255).any(axis=(0, 2)))
    assert len(below)  # the dots of an ellipsis
    assert below.min() > 150


def test_a_sheet_answers_what_it_cannot_show(tmp_path):
    root = recordings.record(tmp_path / "dataset", num_episodes=2)
    with pytest.raises(DataError, match=r"has no camera 'wirst'\. Did you mean 'wrist'"):
        write_sheet(root, tmp_path / "sheet.png", episodes=[0], cameras=["wirst"], on_episode=ignore)
    with pytest.raises(DataError, match="a sheet of 25 episodes is too high to look at; choose 24 at most"):
        write_sheet(root, tmp_path / "sheet.png", episodes=range(25), on_episode=ignore)
    assert not (tmp_path / "sheet.png").exists()


def test_the_first_the_middle_and_the_last_episode_are_shown_unless_told_otherwise():
    assert [default_episodes(number) for number in (1, 2, 9)] == [[0], [0, 1], [0, 4, 8]]


def test_a_recording_for_rerun_says_what_is_missing_where_it_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(DataError, match=r"needs the package rerun-sdk; install the extra `rerun`"):
        write_recording(tmp_path, tmp_path / "out.rrd", episodes=[0], on_episode=ignore)


def test_a_recording_for_rerun_is_written_where_it_is_installed(tmp_path):
    pytest.importorskip("rerun")
    root = recordings.record(tmp_path / "dataset", num_episodes=2)
    write_recording(root, tmp_path / "out.rrd", episodes=[1], on_episode=ignore)
    assert (tmp_path / "out.rrd").stat().st_size > 10_000
    assert not list(tmp_path.glob("*.partial"))
