"""A person in front of the screen: opens it on a recorded run, presses keys, reads what is shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from textual.geometry import Size
from textual.pilot import Pilot

from opentau.control import LocalRunClient, RunClient
from tests.unit.report.synthetic_run import RUN_ID
from tui.app import LoopApp

DEADLINE_S = 40.0
NUM_SAME = 3
"""Looks at the screen, a twentieth of a second apart, that must agree before it counts as settled."""


class Driver:
    """One open screen."""

    def __init__(self, app: LoopApp, pilot: Pilot[None]) -> None:
        self.app = app
        self._pilot = pilot

    async def press(self, *keys: str) -> None:
        await self._pilot.press(*keys)

    async def click(self, selector: str, offset: tuple[int, int]) -> None:
        await self._pilot.click(selector, offset=offset)

    def lines(self, count: int | None = None) -> list[str]:
        """Return the text of the screen, row by row, or of its first few rows."""
        compositor = self.app.screen._compositor
        size = compositor.size if count is None else Size(compositor.size.width, count)
        return [strip.text for strip in compositor.render_strips(size)]

    def colours(self) -> list[str]:
        """Return the colours on the screen, as sorted hexadecimal numbers."""
        used = set()
        for strip in self.app.screen._compositor.render_strips():
            for segment in strip:
                for colour in (segment.style.color, segment.style.bgcolor) if segment.style is not None else ():
                    if colour is not None and colour.triplet is not None:
                        used.add(colour.triplet.hex.removeprefix("#"))
        return sorted(used)

    def svg(self) -> str:
        return self.app.export_screenshot()

    async def sees(self, *texts: str) -> str:
        """Wait until all texts are on the screen and return it."""
        return await self._until(lambda: all(text in "\n".join(self.lines()) for text in texts), f"{texts} on the screen")

    async def waits_for(self, happened: Callable[[], Any]) -> None:
        """Wait until something has happened."""
        await self._until(happened, "what was waited for")

    async def settles(self) -> str:
        """Wait until nothing is being read and the screen stays as it is, and return it."""
        seen = [""] * NUM_SAME

        def is_settled() -> bool:
            seen.append("\n".join(self.lines()))
            screen = self.app.run_screen
            return screen.is_shown and not screen.is_reading and len({*seen[-NUM_SAME:]}) == 1

        return await self._until(is_settled, "screen that stays as it is")

    async def _until(self, is_so: Callable[[], Any], what: str) -> str:
        for _ in range(round(DEADLINE_S / 0.05)):
            if is_so():
                return "\n".join(self.lines())
            await self._pilot.pause(0.05)
        raise AssertionError(f"no {what} within {DEADLINE_S} s:\n" + "\n".join(self.lines()))


def record(run_dir: Path, run: list[dict[str, Any]]) -> None:
    """Append events to a run's log, as its process would."""
    folder = run_dir / "events"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "main-1.jsonl", "a", encoding="utf-8") as file:
        file.writelines(json.dumps(event) + "\n" for event in run)


def drive(
    run_dir: Path,
    play: Callable[[Driver], Awaitable[None]],
    *,
    now: float,
    size: tuple[int, int] = (80, 24),
    client: RunClient | None = None,
    **options: Any,
) -> None:
    """Open the screen on a run directory at a fixed time and play a scene on it; options as `LoopApp` takes them."""

    async def scene() -> None:
        app = LoopApp(client or LocalRunClient(run_dir), RUN_ID, now=lambda: now, **options)
        async with app.run_test(size=size, notifications=True) as pilot:
            await play(Driver(app, pilot))

    asyncio.run(scene())
