"""A person at a terminal of 80×24 characters, with a loop that really runs: looks at every screen, takes over, decides."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opentau import control, events
from opentau.cli.run_files import LocalRunFiles
from opentau.config import build
from opentau.data.lerobot.dataset import Dataset
from opentau.events import EventReader
from opentau.types import Outcome, Source, derive_seed
from tests.loop.driving import opentau, start
from tests.tui.terminal import Terminal, terminal

pytestmark = [pytest.mark.tui, pytest.mark.timeout(1200)]

TABLETOP = {"target": "envs.tabletop.environment:TabletopEnv", "args": {"image_size": 32, "placement_range": 0.25}}
OPTIONS = (
    *("experiment=tiny", "run_id=run", "rollout.num_stations=1", "env.args.max_steps=240"),
    *("collect.episodes=12", "evaluation.final_states=2"),
)
STATION = "station-0-1"
NEAR_M, FULL_M, FINE_M = 0.006, 0.03, 0.006
"""How close the hand is brought to where it should be, and how far a press of a key moves it: all of a step, a fifth of it."""
ABOVE_M, LOWERED_M = 0.10, 0.03
GRIPPER_PRESSES = 5


class Watched:
    """What the run's event log says, read by nothing of the screens."""

    def __init__(self, run: Path) -> None:
        self._reader = EventReader(run)
        self._seen: list[dict[str, Any]] = []

    def all(self, kind: str, **facts: Any) -> list[dict[str, Any]]:
        """Return the events of a kind so far that say these facts."""
        self._seen += self._reader.read_new()
        told = [event for event in self._seen if event["kind"] == kind]
        return [event for event in told if all(event.get(name) == fact for name, fact in facts.items())]

    def episodes(self, stage: str) -> list[dict[str, Any]]:
        return self.all(events.EPISODE_FINISHED, stage=stage)

    def waits_for(self, kind: str, *, more_than: int = 0, **facts: Any) -> dict[str, Any]:
        """Return the newest event of a kind, once there are more than so many."""
        deadline = time.monotonic() + 600
        while len(found := self.all(kind, **facts)) <= more_than:
            assert time.monotonic() < deadline, f"no {kind} with {facts}; the last: {self._seen[-3:]}"
            time.sleep(0.1)
        return found[-1]


@pytest.fixture
def at_work(tmp_path: Path) -> Iterator[tuple[Terminal, Path, Watched]]:
    """A loop that runs, and a terminal with its screens."""
    runs, run = tmp_path / "runs", tmp_path / "runs" / "run"
    with start(runs, OPTIONS) as loop:
        try:
            while not (run / "events").is_dir():
                assert loop.poll() is None, (runs / "output.txt").read_text()[-3000:]
                time.sleep(0.1)
            command = [sys.executable, "-P", "-m", "opentau.cli.main", "tui", "run"]
            with terminal(tmp_path, command, environment={"OPENTAU_RUNS": str(runs), "LC_ALL": "C.UTF-8"}) as window:
                yield window, run, Watched(run)
        finally:
            loop.terminate()
            loop.wait(60)


def test_a_person_sees_steers_takes_over_and_decides(at_work: tuple[Terminal, Path, Watched]) -> None:
    window, run, watched = at_work
    window.sees("OpenTau", "run", "● running", "space pause or resume")
    watched.waits_for(events.STAGE_STARTED, stage="collect-1")
    episode_id = take_over(window, watched)
    finish_by_hand(window, run, watched, episode_id)

    window.type("+")
    said = watched.waits_for(events.COMMAND, verb=control.LABEL, state="done")
    assert (said["episode_id"], said["args"]["outcome"]) == (episode_id, control.SUCCESS)
    window.type("Escape")
    window.sees("[4 Stations]", "nobody")

    watched.waits_for(events.STAGE_STARTED, stage="collect-2")
    watched.waits_for(events.EPISODE_FINISHED, stage="collect-2")
    window.type("Space")
    watched.waits_for(events.COMMAND, verb=control.PAUSE, state="done")
    window.sees("‖ paused")
    every_screen_is_true(window, run, watched)

    window.type("6")
    window.sees("[6 Ckpt]")
    window.type("End")
    window.waits_for(lambda: any("▸" in line and "update-1" in line for line in window.lines()), "cursor on update-1")
    window.type("p")
    watched.waits_for(events.COMMAND, verb=control.PROMOTE, state="done")
    window.type("b")
    watched.waits_for(events.COMMAND, verb=control.ROLLBACK, state="done")
    for verb in (control.PROMOTE, control.ROLLBACK):
        (done,) = watched.all(events.COMMAND, verb=verb, state="done")
        assert (done["args"], done["text"]) == ({"iteration": 1}, "from iteration 3 on")

    window.type("Space")
    watched.waits_for(events.COMMAND, verb=control.RESUME, state="done")
    window.sees("● running")
    killed_in_the_middle(window, watched)

    recorded = Dataset(next((run / "stages").glob("collect-1-*[0-9a-f]")))
    place = next(i for i, info in enumerate(recorded.episodes) if info.episode_id == episode_id)
    by_hand = recorded.episodes[place]
    assert by_hand.outcome is Outcome.SUCCESS
    assert by_hand.num_intervention_steps > 20
    assert (recorded.numbers(place).source == Source.INTERVENTION).sum() == by_hand.num_intervention_steps


def take_over(window: Terminal, watched: Watched) -> str:
    """Take the only station in hand and return the episode; what is asked too early or too late is asked again."""
    window.type("4")
    window.sees("[4 Stations]", f"▸ {STATION}")
    for _ in range(10):
        num_begun = len(watched.all(events.TAKEOVER, state="began"))
        num_refused = len(_refusals(watched))
        window.type("t")
        window.sees("w forward", "g close")
        window.waits_for(
            lambda: len(watched.all(events.TAKEOVER, state="began")) > num_begun or len(_refusals(watched)) > num_refused,  # noqa: B023
            "answer of the station",
        )
        begun = watched.all(events.TAKEOVER, state="began")
        if len(begun) > num_begun:
            window.sees("in hand of")
            return str(begun[-1]["episode_id"])
        window.type("Escape")
        window.sees("[4 Stations]")
    raise AssertionError("the station could not be taken in hand")


def _refusals(watched: Watched) -> list[dict[str, Any]]:
    return watched.all(events.COMMAND, verb=control.TAKE_OVER, state="refused")


class Hand:
    """Keys by eye: what the station shows says where the hand is, and the keys bring it closer."""

    def __init__(self, window: Terminal, run: Path, watched: Watched) -> None:
        self._window, self._watched = window, watched
        self._files = LocalRunFiles(run)
        self._is_fine = False
        self._step_to("a control step a press")

    @property
    def is_over(self) -> bool:
        return bool(self._watched.all(events.TAKEOVER, state="ended"))

    def seen(self) -> tuple[int, np.ndarray]:
        """Return the step and the hand's place, m, [3]."""
        deadline = time.monotonic() + 30
        while (live := self._files.live(STATION)) is None:
            assert time.monotonic() < deadline, "the station shows nothing"
            time.sleep(0.02)
        return live.tick, np.array(live.state[:3])

    def press(self, key: str, times: int) -> None:
        """Press a key some times and wait until the station has moved so often, or its episode is over."""
        before, _ = self.seen()
        self._window.type(*[key] * times)
        self._window.waits_for(lambda: self.is_over or self.seen()[0] >= before + times, f"{times} steps of {key}")

    def reach(self, axis: int, goal_m: float) -> None:
        """Bring one coordinate of the hand to where it should be."""
        more, less = (("w", "s"), ("a", "d"), ("r", "f"))[axis]
        for _ in range(40):
            error = goal_m - self.seen()[1][axis]
            if abs(error) <= NEAR_M or self.is_over:
                return
            is_fine = abs(error) < FULL_M
            if is_fine is not self._is_fine:
                self._step_to("0.2 of a control step a press" if is_fine else "a control step a press")
                self._is_fine = is_fine
            times = max(1, int(abs(error) / (FINE_M if is_fine else FULL_M)))
            self.press(more if error > 0 else less, min(times, 8))
        raise AssertionError(f"the hand does not come to {goal_m:.3f} m along axis {axis}; it is at {self.seen()[1]}")

    def _step_to(self, words: str) -> None:
        while f"tab: {words}" not in "\n".join(self._window.lines()):
            shown = self._tab_line()
            self._window.type("Tab")
            self._window.waits_for(lambda: self._tab_line() != shown, "another step")  # noqa: B023  waited for at once

    def _tab_line(self) -> str:
        return next((line for line in self._window.lines() if "tab: " in line), "")


def finish_by_hand(window: Terminal, run: Path, watched: Watched, episode_id: str) -> None:
    """Put the cube on the tray with keys; where it lies is seen in the same scene, set up anew from the episode's seed."""
    number = int(episode_id.rpartition("/")[2])
    env = build(TABLETOP, task_id=0)
    env.reset(seed=derive_seed(derive_seed(0, "collect", 1, number), "env"))
    ((_, cube, _),) = env.goal
    cube_m, tray_m = env.data.body(cube).xpos.copy(), env.data.body("tray").xpos.copy()
    env.close()
    hand = Hand(window, run, watched)
    hand.press("h", 2)
    hand.reach(2, ABOVE_M)
    hand.reach(0, cube_m[0])
    hand.reach(1, cube_m[1])
    hand.reach(2, cube_m[2])
    hand.press("g", GRIPPER_PRESSES)
    hand.reach(2, ABOVE_M)
    hand.reach(0, tray_m[0])
    hand.reach(1, tray_m[1])
    hand.reach(2, tray_m[2] + LOWERED_M)
    hand.press("h", GRIPPER_PRESSES)
    for _ in range(4):
        if not hand.is_over:
            hand.press("r", 1)
    watched.waits_for(events.TAKEOVER, state="ended", episode_id=episode_id)
    played = watched.waits_for(events.EPISODE_FINISHED, episode_id=episode_id)
    assert played["outcome"] == Outcome.SUCCESS
    assert played["num_intervention_steps"] > 20
    window.sees(f"{episode_id} is over: success")


def every_screen_is_true(window: Terminal, run: Path, watched: Watched) -> None:
    """Visit every screen of the paused run; its numbers are those of the event log."""
    status = opentau(run.parent, "status", "run")
    for key, name, truths in (
        ("1", "Loop", loop_truths),
        ("2", "Success", lambda seen: success_truths(seen, status)),
        ("3", "Value", value_truths),
        ("4", "Stations", station_truths),
        ("5", "Train", training_truths),
        ("6", "Ckpt", lambda seen: checkpoint_truths(seen, status)),
        ("7", "Film", episode_truths),
        ("8", "Label", operator_truths),
        ("9", "Log", log_truths),
        ("0", "Diff", difference_truths),
    ):
        window.type(key)
        truth: Callable[[Watched], list[str]] = truths
        text = window.sees(f"[{key} {name}]", *truth(watched))
        rows = text.split("\n")
        assert len(rows) == 24
        assert max(map(len, rows)) <= 80
        assert "‖ paused" in rows[0]


def loop_truths(watched: Watched) -> list[str]:
    played = watched.episodes("collect-2")
    good = sum(episode["outcome"] == Outcome.SUCCESS for episode in played)
    return [f"{good} of {len(played)} succeed", "● collect-2", "✓ value-1", f"{len(played)}/12 episodes"]


def success_truths(watched: Watched, status: dict[str, Any]) -> list[str]:
    *_, newest = status["iterations"]
    (verdict,) = watched.all(events.VERDICT)
    played = watched.episodes("collect-1")
    good = sum(episode["outcome"] == Outcome.SUCCESS for episode in played)
    return [
        f"{newest['successes']}/{newest['episodes']}",
        f"p {verdict['p_value']:.2g}",
        f"collect-1{good:>16}",
    ]


def value_truths(watched: Watched) -> list[str]:
    (told,) = watched.all(events.LABELLED, stage="label-1")
    (fitted,) = watched.all(events.STAGE_FINISHED, stage="value-1")
    first = next(name for name in fitted["summary"] if name.startswith("value/"))
    name, number = first.removeprefix("value/"), f"{fitted['summary'][first]:.3g}"
    return [f"Advantages, iteration {told['iteration']}", f"{name:<22}{number}"]


def station_truths(watched: Watched) -> list[str]:
    played = watched.all(events.EPISODE_FINISHED, station=STATION)
    good = sum(episode["outcome"] == Outcome.SUCCESS for episode in played)
    return [f"{good} of {len(played)} succeed", f"▸ {STATION}", "ms there and back"]


def training_truths(watched: Watched) -> list[str]:
    told = watched.all(events.TRAIN_METRICS, stage="update-1")
    losses = [event["metrics"]["train/loss"] for event in told if "train/loss" in event["metrics"]]
    return ["Loss of update-1", f"update-1, update {told[-1]['update']}", f"{losses[-1]:.3g} "]


def checkpoint_truths(watched: Watched, status: dict[str, Any]) -> list[str]:
    first, *_ = status["iterations"]
    return ["sft-0", "update-1", f"{100 * first['successes'] / first['episodes']:.0f} %"]


def episode_truths(watched: Watched) -> list[str]:
    newest = watched.episodes("collect-2")[-1]
    return ["Episodes: recorded", newest["episode_id"], newest["outcome"], f" {newest['num_steps']:>5} "]


def operator_truths(watched: Watched) -> list[str]:
    newest = watched.all(events.EPISODE_FINISHED, station=STATION)[-1]
    return [STATION, newest["episode_id"]]


def log_truths(watched: Watched) -> list[str]:
    num_paused = watched.all(events.COMMAND, verb=control.PAUSE, state="done")
    return [f"pause ({num_paused[-1]['operator']}) done", "collect-2 started"]


def difference_truths(watched: Watched) -> list[str]:
    (started,) = watched.all(events.RUN_STARTED)
    return ["Starts of the run", started["command"][:40], "Inputs of iteration 2"]


def killed_in_the_middle(window: Terminal, watched: Watched) -> None:
    """Kill the screens with a station in hand: it goes back when the lease is over, and its episode is recorded."""
    episode_id = take_over(window, watched)
    num_ended = len(watched.all(events.TAKEOVER, state="ended"))
    num_jogs = len(watched.all(events.COMMAND, verb=control.JOG, state="done"))
    window.type("r")
    watched.waits_for(events.COMMAND, verb=control.JOG, state="done", more_than=num_jogs)
    os.kill(window.pid(), signal.SIGKILL)
    ended = watched.waits_for(events.TAKEOVER, more_than=num_ended, state="ended")
    assert ended["episode_id"] == episode_id
    assert "lease" in ended["text"]
    watched.waits_for(events.EPISODE_FINISHED, episode_id=episode_id)
    finished = watched.waits_for(events.STAGE_FINISHED, stage="collect-2")
    assert finished["summary"]["episodes"] == 12
