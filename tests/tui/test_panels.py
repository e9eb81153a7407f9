"""Panels show all that was drawn last, at its end where that belongs, however drawing and layout follow each other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from opentau.runstate import RunSummary
from tui.panels import Panel
from tui.text.lines import Line

pytestmark = pytest.mark.tui


class OnePanel(App[None]):
    """A panel that draws what `self.told` holds."""

    CSS = "Panel { overflow-x: hidden; text-wrap: nowrap; }"

    def __init__(self, *, is_tail: bool = True) -> None:
        super().__init__()
        self.told: list[str] = ["nothing yet"]
        self.panel = Panel(self._lines, id="told", is_tail=is_tail)

    def compose(self) -> ComposeResult:
        yield self.panel

    def _lines(self, summary: RunSummary, now: float, width: int) -> list[Line]:
        return [[(text, "")] for text in self.told]

    def tell(self, *told: str) -> None:
        self.told = list(told)
        self.panel.show(RunSummary(), 0.0)

    def rows(self) -> list[str]:
        return [strip.text.strip() for strip in self.screen._compositor.render_strips()]


def on(app: OnePanel, play: Callable[[Pilot[None]], Awaitable[None]]) -> None:
    async def scene() -> None:
        async with app.run_test(size=(30, 10)) as pilot:
            await play(pilot)

    asyncio.run(scene())


NUMBERS = [f"line {number}" for number in range(50)]


def test_what_is_drawn_between_two_layouts_is_shown_in_full() -> None:
    app = OnePanel()

    async def play(pilot: Pilot[None]) -> None:
        app.tell("short")
        app.screen._refresh_layout()
        app.tell("a longer line than that", "and another")
        await pilot.pause()
        assert app.rows()[:2] == ["a longer line than that", "and another"]

    on(app, play)


def test_a_tail_is_at_its_end_at_once_and_stays_there_in_a_terminal_that_changes() -> None:
    app = OnePanel()

    async def play(pilot: Pilot[None]) -> None:
        app.tell(*NUMBERS)
        assert app.panel.scroll_offset.y == app.panel.max_scroll_y == 40
        for height in (6, 20, 7):
            await pilot.resize_terminal(30, height)
            await pilot.pause()
            assert app.rows()[-1].startswith("line 49")
        app.tell(*NUMBERS, "the newest")
        await pilot.pause()
        assert app.rows()[-1].startswith("the newest")

    on(app, play)


def test_a_tail_that_the_reader_left_stays_where_it_is_until_the_reader_returns() -> None:
    app = OnePanel()

    async def play(pilot: Pilot[None]) -> None:
        app.tell(*NUMBERS)
        app.panel.focus()
        await pilot.press("home")
        await pilot.pause(0.5)
        app.tell(*NUMBERS, "the newest")
        await pilot.pause()
        assert app.rows()[0].startswith("line 0")
        await pilot.press("end")
        await pilot.pause(0.5)
        app.tell(*NUMBERS, "the newest", "one more")
        await pilot.pause()
        assert app.rows()[-1].startswith("one more")

    on(app, play)


def test_text_that_is_too_wide_says_so_and_what_is_selected_can_be_copied() -> None:
    app = OnePanel(is_tail=False)

    async def play(pilot: Pilot[None]) -> None:
        app.tell("x" * 50, "second line")
        await pilot.pause()
        assert app.rows()[0].endswith("x…")
        app.screen.text_select_all()
        assert app.screen.get_selected_text() == "x" * 29 + "…\nsecond line"

    on(app, play)
