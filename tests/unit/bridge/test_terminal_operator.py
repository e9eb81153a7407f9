"""An operator at a real terminal: asked, answered, never told whose episode it is."""

from __future__ import annotations

import os
import pty
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from opentau.types import Actor, EpisodePlan, Outcome
from robot_bridge.operators.terminal import TerminalOperator, as_text
from robot_bridge.teleops.terminal import KEPT_S, Terminal


class Desk:
    """A person at a pseudo-terminal, and the operator that listens to it."""

    def __init__(self, pictures: str | None = None) -> None:
        self.person, self.station = pty.openpty()
        self.now_s = 50.0
        self.said: list[str] = []
        self.terminal = Terminal(self.station, now=lambda: self.now_s)
        self.operator = TerminalOperator(pictures=pictures, terminal=self.terminal, say=self.said.append)

    def type(self, keys: str) -> None:
        os.write(self.person, keys.encode())

    def close(self) -> None:
        self.operator.close()
        os.close(self.person)
        os.close(self.station)


def plan(number: int = 0) -> EpisodePlan:
    return EpisodePlan(
        index=number, episode_id=f"gate-1/{number:06d}", task_id="arm/0", seed=number, actor=Actor.POLICY, policy_id="candidate"
    )


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.close()


def test_the_robot_waits_for_enter_and_is_asked_for_once(desk: Desk) -> None:
    assert not desk.operator.prepare(plan())
    desk.now_s += 12.5
    assert not desk.operator.prepare(plan())
    desk.type("\n")
    assert desk.operator.prepare(plan())
    assert sum("set the scene up" in text for text in desk.said) == 1


def test_enter_for_one_episode_is_not_enter_for_the_next(desk: Desk) -> None:
    desk.operator.prepare(plan(0))
    desk.type("\n\n")
    assert desk.operator.prepare(plan(0))
    assert not desk.operator.prepare(plan(1))
    assert not desk.operator.prepare(plan(1))


@pytest.mark.parametrize(("key", "outcome"), [("+", Outcome.SUCCESS), ("-", Outcome.FAILURE), ("x", Outcome.ABORTED)])
def test_keys_say_what_came_of_it(desk: Desk, key: str, outcome: Outcome) -> None:
    desk.operator.prepare(plan())
    desk.type("\n")
    desk.operator.prepare(plan())
    assert desk.operator.verdict(plan(), tick=3) is None
    desk.type(f"q{key}")
    assert desk.operator.verdict(plan(), tick=4) is outcome
    assert desk.operator.verdict(plan(), tick=5) is None


def test_whose_episode_it_is_is_not_shown(desk: Desk) -> None:
    desk.operator.prepare(plan())
    assert "candidate" not in " ".join(desk.said)


def test_every_placement_has_its_picture(tmp_path: Path) -> None:
    for number in range(3):
        Image.fromarray(np.full((8, 8, 3), 40 * number, np.uint8)).save(tmp_path / f"{number}.png")
    desk = Desk(str(tmp_path))
    for number in range(12):
        desk.operator.prepare(plan(number))
    shown = {text.splitlines()[-1] for text in desk.said if ".png" in text}
    assert shown == {str(tmp_path / f"{number}.png") for number in range(3)}
    desk.close()


def test_a_picture_becomes_half_blocks_of_its_colours() -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:2] = 255, 0, 0
    lines = as_text(Image.fromarray(pixels), columns=4).splitlines()
    assert len(lines) == 2
    assert lines[0].count("38;2;255;0;0") == 4
    assert "255" not in lines[1].replace("38;2;0;0;0", "")


def test_each_listener_takes_its_own_keys_and_old_ones_are_forgotten(desk: Desk) -> None:
    desk.terminal.open()
    desk.type("a+b")
    assert desk.terminal.take({"+"}) == ["+"]
    assert desk.terminal.take({"a"}) == ["a"]
    desk.now_s += KEPT_S + 0.1
    assert desk.terminal.take({"b"}) == []
    desk.terminal.close()
