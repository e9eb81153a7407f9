"""The screens as exported text: which cells there are, how one is drawn, and `python -m tests.tui.snapshots` to write them.

Eighty cells cover every pair of screen, size, theme and state. A file holds the rows of the screen, and the colours in use.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.tui.screen_driver import Driver
from tests.tui.states import RUN_ID, STATES, InventedFiles, State, write_run
from tui.actions import VIEWS
from tui.app import LoopApp
from tui.themes import DARK, LIGHT

FOLDER = Path(__file__).parent / "snapshots"
SIZES = ((80, 24), (120, 40))
THEMES = ("dark", "light", "no-colour")


@dataclass(frozen=True)
class Cell:
    """One screen in one state, size and theme."""

    view: str
    state: State
    size: tuple[int, int]
    theme: str

    @property
    def name(self) -> str:
        return f"{self.view}-{self.state.name}-{self.size[0]}x{self.size[1]}-{self.theme}"


CELLS = tuple(
    Cell(view, state, SIZES[(i + j) % len(SIZES)], THEMES[(i + j) % len(THEMES)])
    for i, view in enumerate(VIEWS)
    for j, state in enumerate(STATES)
)


def drawn(cell: Cell) -> str:
    """Return what a cell looks like now."""
    with tempfile.TemporaryDirectory() as folder:
        now = write_run(Path(folder), cell.state)
        return asyncio.run(_drawn(cell, Path(folder), now))


async def _drawn(cell: Cell, folder: Path, now: float) -> str:
    theme = LIGHT if cell.theme == "light" else DARK
    client = cell.state.client(folder)
    app = LoopApp(client, RUN_ID, files=InventedFiles(), view=cell.view, theme=theme, is_ascii=False, now=lambda: now)
    async with app.run_test(size=cell.size, notifications=True) as pilot:
        user = Driver(app, pilot)
        await user.sees(cell.state.sees)
        text = "\n".join(row.rstrip() for row in (await user.settles()).splitlines())
        return f"{text}\n-- colours: {' '.join(user.colours())}\n"


def in_place_and_time() -> None:
    """Fix what else a drawing depends on: the time zone; colours are switched off by `NO_COLOR`."""
    os.environ["TZ"] = "UTC"
    time.tzset()


def write_all() -> None:
    """Write every cell anew; say which changed."""
    in_place_and_time()
    FOLDER.mkdir(exist_ok=True)
    for path in set(FOLDER.glob("*.txt")) - {FOLDER / f"{cell.name}.txt" for cell in CELLS}:
        path.unlink()
    for cell in CELLS:
        os.environ.pop("NO_COLOR", None)
        if cell.theme == "no-colour":
            os.environ["NO_COLOR"] = "1"
        path, text = FOLDER / f"{cell.name}.txt", drawn(cell)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(path.name, file=sys.stderr)


if __name__ == "__main__":
    write_all()
