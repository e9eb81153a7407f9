"""`opentau data`: every command teaches itself, answers in one line of JSON, and exits with what it found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from opentau.cli.data import COMMANDS
from opentau.cli.main import main
from opentau.config import locate
from opentau.data.lerobot.dataset import Dataset
from tests.unit.data import recordings


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recordings.record(tmp_path_factory.mktemp("data") / "dataset", num_episodes=4)


def answer(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> dict:
    """Return the one line of JSON that a command prints."""
    assert main(["data", *map(str, arguments), "--json"]) == code
    (line,) = capsys.readouterr().out.splitlines()
    return json.loads(line)


def test_the_overview_lists_every_command_and_every_command_is_there(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["data", "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for name, (target, text) in COMMANDS.items():
        assert f"  {name} " in shown
        assert text in shown
        locate(target)


@pytest.mark.parametrize("name", ["info", "stats", "check", "view", "render", "export"])
def test_every_command_teaches_itself(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["data", name, "--help"])
    assert stop.value.code == 0
    assert f"usage: opentau data {name}" in capsys.readouterr().out


def test_an_unknown_command_and_an_unknown_dataset_are_answered(capsys):
    assert main(["data", "chekc"]) == 2
    assert "unknown command 'chekc'. Did you mean 'check'?" in capsys.readouterr().err
    assert main(["data", "info", "./nowhere"]) == 2
    assert "there is no dataset folder ./nowhere" in capsys.readouterr().err


def test_listing_the_commands_loads_neither_arrow_nor_a_video_library():
    code = "import sys; from opentau.cli.main import main; main(['data', '']); assert not {'pyarrow', 'av'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False).returncode == 0


def test_info_in_words_and_as_json(root, capsys):
    assert answer(capsys, "info", root)["num_frames"] == 240
    assert main(["data", "info", str(root)]) == 0
    shown = capsys.readouterr().out
    for words in ("LeRobot v3.0, by OpenTau", "4 (4 success)", "front 24x32x3 (images)", "stack the cups"):
        assert words in shown


def test_stats_in_words_and_as_json(root, capsys, monkeypatch):
    plain = answer(capsys, "stats", root, "--episodes", "1-2")
    assert plain["action"]["found"]["count"] == 120
    assert plain["action"]["contradictions"] == []
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["data", "stats", str(root)]) == 0
    shown = capsys.readouterr().out
    assert "3 (gripper)" in shown
    assert "as stated" in shown
    assert "The dataset states the same." in shown


def test_a_sound_dataset_passes_the_check(root, capsys):
    assert answer(capsys, "check", root)["findings"] == []
    assert main(["data", "check", str(root), "--fast"]) == 0
    assert "nothing wrong: 4 episodes, without pixels" in " ".join(capsys.readouterr().out.split())


def test_errors_exit_with_1_and_warnings_with_0(tmp_path, capsys, monkeypatch):
    def still(index, columns):
        columns["state"][:, 2] = 0.5

    monkeypatch.setenv("COLUMNS", "160")
    root = recordings.record(tmp_path / "dataset", change=still, num_episodes=4)
    assert answer(capsys, "check", root, "--fast")["num_warnings"] == 1
    recordings.edit(root, 2, "frame_index", lambda numbers: numbers + 1)
    plain = answer(capsys, "check", root, "--fast", code=1)
    assert [finding["code"] for finding in plain["findings"]] == ["frame-index", "dead-dimension"]
    assert plain["findings"][0]["frame"] == 0
    assert main(["data", "check", str(root), "--fast"]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 errors, 1 warnings in 4 episodes, without pixels" in shown


def test_view_writes_where_it_says(root, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert answer(capsys, "view", root) == {"path": "dataset-sheet.png", "episodes": [0, 2, 3]}
    assert (tmp_path / "dataset-sheet.png").stat().st_size > 10_000
    assert main(["data", "view", str(root), "--episodes", "1", "--camera", "front", "--out", "one.png"]) == 0
    assert capsys.readouterr().out == "one.png\n"


def test_export_writes_the_chosen_episodes(root, tmp_path, capsys):
    out = tmp_path / "copy"
    options = ("--out", out, "--episodes", "0-2", "--exclude", "1", "--image-size", 16, "--rename-camera", "front=base")
    plain = answer(capsys, "export", root, *options)
    assert (plain["path"], plain["num_episodes"], plain["num_frames"]) == (str(out), 2, 120)
    assert Dataset(out).interface.cameras == {"base": (12, 16, 3), "wrist": (16, 16, 3)}
    assert main(["data", "export", str(root), "--out", str(out)]) == 2
    assert "copy exists; choose another folder" in capsys.readouterr().err
    assert main(["data", "export", str(root), "--out", str(tmp_path / "other"), "--rename-camera", "front"]) == 2
    assert "write it as old=new" in capsys.readouterr().err


def test_mix_shows_the_shares_and_draws_a_batch(root, tmp_path, capsys):
    parts = f"mixture.parts=[{{name: arm, dataset: {root}, cameras: {{agentview: front}}, weight: [[0, 1], [1, 3]]}}]"
    assert main(["data", "mix", "env=tabletop", parts, "--picture", str(tmp_path / "batch.png"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    shares = {row["name"]: (row["first_share"], row["last_share"]) for row in shown["parts"]}
    assert shares == {"main": (0.5, 0.25), "arm": (0.5, 0.75)}
    assert (tmp_path / "batch.png").stat().st_size > 5_000
    assert main(["data", "mix", "env=tabletop"]) == 2
    assert "the mixture has no parts" in capsys.readouterr().err
