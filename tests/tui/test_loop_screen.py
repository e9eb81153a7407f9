"""The screen, driven as a person would: what it shows of a recorded run, and which commands its keys send."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from textual.message import Message

from opentau import events, runsnapshot
from opentau.control import LocalRunClient, take_commands
from opentau.runfold import fold
from tests.tui.screen_driver import Driver, drive, record
from tests.unit.report.synthetic_run import command_event, run_events
from tui.actions import ACTIONS
from tui.dialogs import HelpScreen, help_text
from tui.run_screen import RunScreen

pytestmark = pytest.mark.tui


@pytest.fixture
def collecting(tmp_path: Path) -> tuple[Path, float]:
    """A run in the middle of collecting: its directory and the time of its newest event."""
    run = run_events(until="collect-1")
    record(tmp_path, run)
    return tmp_path, run[-1]["t"]


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_the_screen_shows_where_the_run_is(collecting: tuple[Path, float], size: tuple[int, int]) -> None:
    async def play(user: Driver) -> None:
        await user.sees(
            "object-0-a1b2c3",
            "running · iteration 1 of 2 · about 25 min left",
            "collect-1 ━",
            "25/48 episodes · 1:12 left",
            "15 of 25 succeed · 371 steps per success · 5 % intervened",
            "✓ demonstrations-0 ",
            "● collect-1 ",
            "○ value-1 ",
            "0 candidate",
            " 45 %  18/40",
            "station-1 ● replaced      41   30    1",
            "station station-1 lost: no heartbeat for 10 s",
            "space pause or resume",
            "S stop after stage",
        )
        lines = user.lines()
        assert len(lines) <= size[1]
        assert max(map(len, lines)) <= size[0]

    drive(collecting[0], play, now=collecting[1], size=size)


def test_a_tall_terminal_shows_the_training_curves(collecting: tuple[Path, float]) -> None:
    async def play(user: Driver) -> None:
        assert "train/grad_norm" in await user.sees("Training", "sft-0, update 400")

    drive(collecting[0], play, now=collecting[1], size=(120, 40))


def test_a_finished_run_shows_its_result_and_takes_no_commands(tmp_path: Path) -> None:
    run = run_events()
    record(tmp_path, run)

    async def play(user: Driver) -> None:
        await user.sees(
            "finished · iteration 2 of 2 · took 33 min 10 s", "promoted in iteration 1 · official states 46 % → 72 %"
        )
        await user.press("space", "S")
        await user.press("q")

    drive(tmp_path, play, now=run[-1]["t"] + 10_000)
    assert take_commands(tmp_path) == []


def test_a_finished_run_whose_snapshot_holds_everything_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_events()
    record(tmp_path, run)
    monkeypatch.setattr(runsnapshot, "BYTES_BETWEEN", 1)
    runsnapshot.fold_run(tmp_path)
    assert runsnapshot.read_snapshot(tmp_path) is not None

    async def play(user: Driver) -> None:
        await user.sees("✓ finished", "15 of 15 stages done")

    drive(tmp_path, play, now=run[-1]["t"])


def test_events_appear_while_the_screen_is_open(collecting: tuple[Path, float]) -> None:
    later = run_events(until="update-1")[len(run_events(until="collect-1")) :]

    async def play(user: Driver) -> None:
        await user.sees("● collect-1")
        record(collecting[0], later)
        await user.sees("● update-1", "200/400 updates", "train/loss 0.1")

    drive(collecting[0], play, now=collecting[1])


def test_space_pauses_and_resumes_and_the_screen_follows_the_runs_own_echo(collecting: tuple[Path, float]) -> None:
    run_dir, t = collecting

    def verbs() -> list[str]:
        return [command.verb for command in take_commands(run_dir)]

    async def play(user: Driver) -> None:
        await user.sees("running")
        await user.press("space")
        sent: list[str] = []
        await user.waits_for(lambda: sent.extend(verbs()) or sent == ["pause"])
        await user.sees("● running", "opentau ctl pause object-0-a1b2c3")
        record(run_dir, [command_event(t, "pause", "received")])
        await user.sees("running, pause requested")
        record(run_dir, [command_event(t, "pause", "done")])
        await user.sees("‖ paused")
        await user.press("space")
        await user.waits_for(lambda: sent.extend(verbs()) or sent == ["pause", "resume"])
        record(run_dir, [command_event(t, "resume", "done")])
        await user.sees("● running")

    drive(run_dir, play, now=t)


def test_capital_s_stops_after_the_stage_and_q_leaves_the_run_alone(collecting: tuple[Path, float]) -> None:
    run_dir, t = collecting

    async def play(user: Driver) -> None:
        await user.sees("running")
        await user.press("s", "S")
        sent: list[str] = []
        await user.waits_for(lambda: sent.extend(command.verb for command in take_commands(run_dir)) or sent == ["stop"])
        record(run_dir, [command_event(t, "stop", "received"), command_event(t, "stop", "done")])
        await user.sees("running, stop after this stage")
        await user.press("q")

    drive(run_dir, play, now=t)
    assert take_commands(run_dir) == []


def test_help_names_every_key_with_its_command(collecting: tuple[Path, float]) -> None:
    async def play(user: Driver) -> None:
        await user.sees("running")
        await user.press("question_mark")
        await user.sees("Keys and their commands", "space", "opentau ctl pause|resume object-0-a1b2c3", "opentau ctl stop")
        await user.press("end")
        await user.sees("opentau tui --help")
        await user.press("escape")
        assert not isinstance(user.app.screen, HelpScreen)

    drive(collecting[0], play, now=collecting[1])


def test_the_help_tells_every_action() -> None:
    told = help_text("r-1")
    for action in ACTIONS:
        assert action.label in told
        assert action.tooltip in told
        assert action.twin.format(run="r-1") in told


def test_the_palette_offers_the_actions_with_their_commands(collecting: tuple[Path, float]) -> None:
    async def play(user: Driver) -> None:
        await user.sees("running")
        await user.press("ctrl+p", *"stop")
        await user.sees("Stop after stage", "opentau ctl stop RUN")

    drive(collecting[0], play, now=collecting[1])


def test_every_key_has_a_tooltip_that_names_its_command() -> None:
    bindings = [binding for binding in RunScreen.BINDINGS if not isinstance(binding, tuple)]
    assert [binding.action for binding in bindings] == [action.name for action in ACTIONS]
    assert all("opentau " in binding.tooltip for binding in bindings)


def test_without_colour_the_screen_says_the_same_in_greys(
    collecting: tuple[Path, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def play(user: Driver) -> None:
        await user.sees("● running", "├──●─┤", "replaced", "✓ sft-0")
        colours = set(re.findall(r"-r\d+ { fill: #(\w{6})", user.svg())) - {"c5c8c6"}  # the SVG's own, of line ends
        assert colours
        assert all(colour == colour[:2] * 3 for colour in colours)

    drive(collecting[0], play, now=collecting[1])


def test_a_lost_link_is_told_and_followed_again(collecting: tuple[Path, float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.run_screen.RETRY_S", 0.3)
    run_dir, t = collecting

    class Unsteady(LocalRunClient):
        is_down = False

        def new_events(self, limit: int | None = None) -> list[dict[str, Any]]:
            if self.is_down:
                raise ConnectionError("no route to host")
            return super().new_events(limit)

    client = Unsteady(run_dir)

    async def play(user: Driver) -> None:
        await user.sees("running")
        client.is_down = True
        await user.sees("cannot follow the run: no route to host", "25/48 episodes")
        record(run_dir, [command_event(t, "pause", "done")])
        client.is_down = False
        assert "no route" not in await user.sees("‖ paused")

    drive(run_dir, play, now=t, client=client)


def test_a_run_that_has_gone_quiet_or_failed_is_told(collecting: tuple[Path, float]) -> None:
    run_dir, t = collecting

    async def play(user: Driver) -> None:
        await user.sees("no news for 10 min 00 s")
        failed = {
            "t": t,
            "process": "main",
            "kind": events.RUN_FAILED,
            "error": "StorageError: disk is full",
            "cpu_seconds": 1.0,
        }
        record(run_dir, [failed])
        await user.sees("✗ failed", "✗ StorageError: disk is full", "✗ collect-1")

    drive(run_dir, play, now=t + 600)


def test_a_burst_of_events_leaves_the_screen_responsive(collecting: tuple[Path, float]) -> None:
    run_dir, t = collecting

    def burst() -> Iterable[dict[str, Any]]:
        for i in range(20_000):
            yield {"t": t, "process": "main", "kind": events.NOTE, "level": "info", "text": f"note {i}"}

    async def play(user: Driver) -> None:
        await user.sees("running")
        record(run_dir, list(burst()))
        await user.press("space")
        await user.waits_for(lambda: take_commands(run_dir))
        await user.sees("note 19999")

    drive(run_dir, play, now=t)


def test_news_that_is_slow_to_draw_never_piles_up_before_keys(
    collecting: tuple[Path, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir, t = collecting
    post, draw, waiting = RunScreen.post_message, RunScreen._draw, [0]

    def counted(screen: RunScreen, message: Message) -> bool:
        if isinstance(message, RunScreen.Changed):
            waiting.append(waiting[-1] + 1)
        return post(screen, message)

    def slowly(screen: RunScreen) -> None:
        time.sleep(0.4)
        draw(screen)
        waiting.append(0)

    def tell_steadily() -> None:
        for number in range(120):
            record(run_dir, [{"t": t, "process": "main", "kind": events.NOTE, "level": "info", "text": f"note {number}"}])
            time.sleep(0.025)

    async def play(user: Driver) -> None:
        await user.sees("running")
        monkeypatch.setattr(RunScreen, "post_message", counted)
        monkeypatch.setattr(RunScreen, "_draw", slowly)
        told = threading.Thread(target=tell_steadily)
        told.start()
        await user.sees("note 119")
        told.join()
        assert max(waiting) == 1

    drive(run_dir, play, now=t)


def test_a_click_on_the_foot_is_a_press_of_the_key(collecting: tuple[Path, float]) -> None:
    async def play(user: Driver) -> None:
        await user.sees("running", "space pause or resume")
        await user.click("#keys", (8, 0))
        sent: list[str] = []
        await user.waits_for(lambda: sent.extend(one.verb for one in take_commands(collecting[0])) or sent == ["pause"])

    drive(collecting[0], play, now=collecting[1])


def test_the_screen_waits_for_a_run_that_has_not_begun(tmp_path: Path) -> None:
    async def play(user: Driver) -> None:
        await user.sees("○ waiting", "no evaluation yet")
        record(tmp_path, run_events(until="sft-0"))
        await user.sees("● sft-0")

    drive(tmp_path, play, now=fold(run_events(until="sft-0")).last_t)
