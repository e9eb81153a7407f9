"""`opentau tui --svg` draws the screens of a recorded run as pictures, and says what is wrong with what it is given."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from opentau.cli.main import main
from tests.tui.screen_driver import record
from tests.tui.states import RUN_ID, told_events

pytestmark = pytest.mark.tui


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run among the runs of this machine."""
    monkeypatch.setenv("OPENTAU_RUNS", str(tmp_path))
    record(tmp_path / RUN_ID, told_events())
    return tmp_path


def text_of(path: Path) -> str:
    root = ElementTree.parse(path).getroot()
    return "".join(root.itertext()).replace("\u00a0", " ")


def test_one_screen_of_a_finished_run_becomes_a_picture(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tui", RUN_ID, "--screen", "success", "--svg", str(recorded / "drawn"), "--size", "100x30"]) == 0
    (path,) = (recorded / "drawn").iterdir()
    assert capsys.readouterr().out.split() == [str(path)]
    text = text_of(path)
    assert "2 Success" in text
    assert "14 won, 2 lost" in text
    assert "url(http" not in path.read_text().replace('"', ""), "a picture asks nobody for fonts"
    assert path.stat().st_size < 100_000


def test_a_replay_is_drawn_where_it_stands(recorded: Path) -> None:
    drawn = recorded / "drawn"
    assert main(["tui", RUN_ID, "--screen", "loop", "--svg", str(drawn), "--replay", "--at", "0.5"]) == 0
    text = text_of(drawn / "loop.svg")
    assert "● running" in text
    assert "finished" not in text.split("Stages")[0]


def test_a_size_that_is_none_is_refused(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tui", RUN_ID, "--svg", str(recorded / "drawn"), "--size", "wide"]) == 2
    assert "--size is 'wide'" in capsys.readouterr().err
