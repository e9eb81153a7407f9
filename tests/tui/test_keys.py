"""Every key of every screen does what its table says: pressed as a person would, the command or the screen is looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opentau import control
from opentau.control import Command, take_commands
from opentau.runfiles import Live
from tests.tui.screen_driver import Driver, drive, record
from tests.tui.states import InventedFiles, told_events
from tui.actions import ACTIONS, IN_HAND, JOGS, VIEWS
from tui.panels import ListPanel
from tui.run_screen import RunScreen
from tui.screens.episodes import EpisodesView
from tui.screens.log import LogView
from tui.screens.training import TrainingView
from tui.screens.value import ValueView
from tui.takeover import TakeoverScreen

pytestmark = pytest.mark.tui

# Screen, key, and the command that it sends with the cursor where it is at first.
STEERING: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("loop", "space", control.PAUSE, {}),
    ("success", "S", control.STOP, {}),
    ("checkpoints", "p", control.PROMOTE, {"iteration": 1}),
    ("checkpoints", "b", control.ROLLBACK, {"iteration": 1}),
    ("checkpoints", "i", control.PIN, {"stage": "update-1"}),
    ("checkpoints", "I", control.UNPIN, {"stage": "update-1"}),
    ("stations", "T", control.HAND_BACK, {"station": "station-0"}),
    ("stations", "C", control.CLEAR, {"station": "station-0"}),
    ("stations", "full_stop", control.STOP_ROBOT, {"station": "station-0"}),
    ("stations", "s", control.LABEL, {"target": "station-0", "outcome": "success"}),
    ("operator", "f", control.LABEL, {"target": "station-0", "outcome": "failure"}),
    ("episodes", "u", control.LABEL, {"target": "collect-2/000024", "outcome": "unknown"}),
    ("episodes", "x", control.LABEL, {"target": "collect-2/000024", "outcome": "discard"}),
)


@pytest.fixture
def collecting(tmp_path: Path) -> tuple[Path, float]:
    """A run that collects for the second time: its directory and the time of its newest event."""
    run = told_events(until="collect-2")
    record(tmp_path, run)
    return tmp_path, run[-1]["t"]


def show(collecting: tuple[Path, float], play: Any, **options: Any) -> None:
    drive(collecting[0], play, now=collecting[1], files=InventedFiles(), **options)


async def sent(user: Driver, run_dir: Path) -> Command:
    """Return the next command in the run's inbox."""
    found: list[Command] = []
    await user.waits_for(lambda: found.extend(take_commands(run_dir)) or found)
    assert len(found) == 1
    return found[0]


def test_every_key_that_steers_sends_its_command_about_what_is_chosen(collecting: tuple[Path, float]) -> None:
    async def play(user: Driver) -> None:
        await user.sees("● running")
        for view, key, verb, args in STEERING:
            await user.press(str((list(VIEWS).index(view) + 1) % 10))
            await user.sees(f"{VIEWS[view][0]}]")
            if view == "checkpoints" and user.app.screen.query_one("#policies", ListPanel).cursor == 0:
                await user.press("down")
            await user.press(key)
            command = await sent(user, collecting[0])
            assert (command.verb, dict(command.args)) == (verb, args), (view, key)
            await user.sees(f"{verb} sent")

    show(collecting, play)


def test_the_first_policy_has_no_gate_to_override(collecting: tuple[Path, float]) -> None:
    async def play(user: Driver) -> None:
        await user.press("6")
        await user.sees("6 Ckpt]", "sft-0")
        await user.press("home", "p")
        await user.sees("promote needs iteration")

    show(collecting, play)
    assert take_commands(collecting[0]) == []


def test_stop_from_another_screen_stops_every_station(collecting: tuple[Path, float]) -> None:
    async def play(user: Driver) -> None:
        await user.sees("● running")
        await user.press("full_stop")
        found: list[Command] = []
        await user.waits_for(lambda: found.extend(take_commands(collecting[0])) or len(found) == 3)
        assert {command.args["station"] for command in found} == {"station-0", "station-1", "station-2"}

    show(collecting, play)


def test_notes_and_options_are_typed(collecting: tuple[Path, float]) -> None:
    async def play(user: Driver) -> None:
        await user.sees("● running")
        await user.press("n", *"dusk", "enter")
        note = await sent(user, collecting[0])
        assert (note.verb, dict(note.args)) == (control.NOTE_DOWN, {"text": "dusk"})
        await user.press("o", *"collect.episodes=80", "enter")
        change = await sent(user, collecting[0])
        assert (change.verb, dict(change.args)) == (control.SET, {"option": "collect.episodes", "value": 80})
        await user.press("o", *"seed=3", "enter")
        await user.sees("'seed'")
        await user.press("n", "escape")
        assert take_commands(collecting[0]) == []

    show(collecting, play)


def test_number_keys_and_a_click_switch_screens(collecting: tuple[Path, float]) -> None:
    async def play(user: Driver) -> None:
        for number, view in enumerate(VIEWS, start=1):
            await user.press(str(number % 10))
            await user.sees(f"{VIEWS[view][1]}]" if view == "loop" else f"{number % 10} {VIEWS[view][1]}]")
            assert user.app.screen.current == view
        await user.click("#tabs", (10, 0))
        await user.sees("2 Success]")

    show(collecting, play, size=(120, 40))


def test_brackets_change_the_iteration_and_the_training(collecting: tuple[Path, float]) -> None:
    async def play(user: Driver) -> None:
        await user.press("3")
        await user.sees("Advantages, iteration 1")
        assert user.app.screen.query_one(ValueView).iteration == 1
        await user.press("5")
        await user.sees("Loss of update-1")
        await user.press("left_square_bracket", "left_square_bracket")
        await user.sees("Loss of sft-0")
        await user.press("right_square_bracket")
        await user.sees("Loss of value-1")
        assert user.app.screen.query_one(TrainingView).stage == "value-1"
        await user.press("0")
        await user.sees("Inputs of iteration 2")
        await user.press("left_square_bracket")
        await user.sees("Inputs of iteration 1", "update-1")

    show(collecting, play)


def test_filters_search_and_cameras(collecting: tuple[Path, float]) -> None:
    async def play(user: Driver) -> None:
        await user.press("7")
        await user.sees("Episodes: recorded", "collect-2/000024", "agentview of agentview, wrist")
        await user.press("c")
        await user.sees("wrist of agentview, wrist")
        await user.press("l")
        await user.sees("Episodes: failures")
        assert all(episode.outcome != "success" for episode in user.app.screen.query_one(EpisodesView).listed)
        await user.press("9")
        assert "run started" not in await user.sees("9 Log]", "collect-2 started")  # the newest lines
        await user.press("home")
        await user.sees("run started")
        await user.press("l")
        await user.sees("warning and worse", "station-1 lost")
        assert "run started" not in "\n".join(user.lines())
        await user.press("l", "l", "slash", *"promoted", "enter")
        await user.sees("with 'promoted'", "gate of iteration 1")
        assert user.app.screen.query_one(LogView).search == "promoted"

    show(collecting, play)


def test_lists_move_with_every_key_of_theirs(collecting: tuple[Path, float]) -> None:
    async def play(user: Driver) -> None:
        await user.press("7")
        await user.sees("collect-2/000024")
        panel = user.app.screen.query_one("#episodes", ListPanel)
        for key, cursor in (("down", 1), ("j", 2), ("up", 1), ("k", 0), ("pagedown", 10), ("pageup", 0)):
            await user.press(key)
            assert panel.cursor == cursor, key
        await user.press("end")
        last = panel.cursor
        assert last > 50
        for key, cursor in (("home", 0), ("G", last), ("g", 0)):
            await user.press(key)
            assert panel.cursor == cursor, key

    show(collecting, play)


def test_a_station_in_hand_is_jogged_labelled_stopped_and_handed_back(collecting: tuple[Path, float]) -> None:
    async def play(user: Driver) -> None:
        await user.press("4")
        await user.sees("▸ station-0")
        await user.press("t")
        assert (await sent(user, collecting[0])).verb == control.TAKE_OVER
        await user.sees("asked for", "w forward")
        for key, _, rates in JOGS:
            await user.press(key)
            command = await sent(user, collecting[0])
            ticks = command.args["ticks"]
            assert command.args == {"station": "station-0", **rates, "ticks": ticks}
            assert ticks == (1 if "gripper" in rates else 5)
        await user.press("tab", "w")
        assert (await sent(user, collecting[0])).args["ticks"] == 20
        await user.press("tab", "d")
        assert (await sent(user, collecting[0])).args == {"station": "station-0", "dy": -0.2, "ticks": 1}
        await user.press("c")
        for key, _, verb, outcome in IN_HAND:
            await user.press(key)
            command = await sent(user, collecting[0])
            assert command.verb == verb
            assert command.args.get("outcome", "") == outcome
        assert not isinstance(user.app.screen, TakeoverScreen)

    show(collecting, play)


def test_a_station_of_a_run_elsewhere_is_seen_in_hand(collecting: tuple[Path, float]) -> None:
    looked: list[str] = []

    def look(station: str) -> Live:
        looked.append(station)
        return Live(episode_id="collect-2/000025", tick=12, pictures={"agentview": np.full((16, 16, 3), 90, np.uint8)})

    async def play(user: Driver) -> None:
        await user.press("4")
        await user.sees("▸ station-0")
        await user.press("t")
        await user.sees("collect-2/000025, step 12", "▀▀▀▀")
        assert set(looked) == {"station-0"}

    drive(collecting[0], play, now=collecting[1], look=look)


def test_no_action_is_left_untested() -> None:
    steering = {action.name for action in ACTIONS if action.is_steering}
    named = {
        f"steer('{verb}', '{args['outcome']}')" if "outcome" in args else f"steer('{verb}')" for _, _, verb, args in STEERING
    }
    elsewhere = {"toggle_pause", "stop", "stop_robots", "note", "set_option", "steer('take_over')"}
    assert steering <= named | elsewhere
    looking = {action.name for action in ACTIONS} - steering - {f"view('{view}')" for view in VIEWS}
    assert looking == {
        *("change_iteration(-1)", "change_iteration(1)", "cycle_filter", "search", "next_camera"),
        *("seek(-1)", "seek(1)", "change_speed(-1)", "change_speed(1)", "detach", "show_keys"),
    }
    keys = [(action.key, view) for action in ACTIONS for view in (action.views or tuple(VIEWS))]
    assert len(keys) == len(set(keys)), "two actions of one screen have the same key"
    assert len(RunScreen.BINDINGS) == len(ACTIONS)
