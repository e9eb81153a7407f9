"""A recorded run played again: its state at any moment is what a live screen would have shown, and the clock obeys its keys."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from opentau.errors import RunError
from opentau.runfold import fold
from opentau.runreplay import LONGEST_GAP_S, Replay
from tests.tui.screen_driver import Driver, drive, record
from tests.tui.states import told_events
from tui.replay_screen import ReplayScreen
from tui.text.lines import plain
from tui.text.replay import replay_line


def test_the_state_at_any_moment_is_the_fold_of_what_had_happened(tmp_path: Path) -> None:
    run = told_events()
    record(tmp_path, run)
    replay = Replay(tmp_path)
    assert len(replay.times_N) == len(run)
    rng = np.random.default_rng(0)
    for count in [*rng.integers(1, len(run), 20).tolist(), len(run), 3]:
        played_s = float(replay.played_N[count - 1])
        happened = [event for event, at in zip(run, replay.played_N, strict=True) if at <= played_s + 1e-9]
        assert replay.seek(played_s) == fold(happened)
        assert replay.moment(played_s) == pytest.approx(happened[-1]["t"])


def test_long_silences_are_cut_short(tmp_path: Path) -> None:
    run = told_events(until="sft-0")
    later = {**run[0], "t": run[-1]["t"] + 100_000, "resumed": True}
    record(tmp_path, [*run, later])
    replay = Replay(tmp_path)
    assert replay.duration_s <= run[-1]["t"] - run[0]["t"] + LONGEST_GAP_S
    assert replay.moment(replay.duration_s) == later["t"]


def test_a_run_without_events_cannot_be_replayed(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no events to replay"):
        Replay(tmp_path)


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_line_of_a_replay_fits(width: int) -> None:
    line = replay_line(90.0, 360.0, t=1_790_000_000.0, speed=10.0, is_playing=False, width=width)
    text = plain(line)
    assert len(text) <= max(width, 50)
    assert "‖ replay ×10" in text
    assert "1:30 of 6:00" in text


@pytest.mark.tui
def test_the_clock_of_a_replay_obeys_its_keys(tmp_path: Path) -> None:
    run = told_events()
    record(tmp_path, run)

    async def play(user: Driver) -> None:
        await user.sees("▸ replay ×10")
        screen = user.app.screen
        assert isinstance(screen, ReplayScreen)
        await user.press("space")
        await user.sees("‖ replay")
        await user.waits_for(lambda: screen._replay is not None)
        length_s = screen._replay.duration_s
        at_s = screen.position_s
        assert at_s >= 0.5 * length_s
        await user.press("left")
        assert screen.position_s == pytest.approx(at_s - 0.02 * length_s)
        for _ in range(30):
            await user.press("right")
        await user.sees("✓ finished")
        for _ in range(60):
            await user.press("left")
        await user.sees("● running", "○ sft-0")
        await user.press("greater_than_sign")
        await user.sees("×30")
        await user.press("less_than_sign", "less_than_sign")
        await user.sees("×3 ")
        await user.press("S", "6", "p")
        await user.press("space")
        await user.sees("▸ replay ×3")

    drive(tmp_path, play, now=0.0, replay=(0.5, 10.0))
    assert not (tmp_path / "control").exists(), "nobody steers what is over"
