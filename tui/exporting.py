"""The screens as pictures (SVG), drawn without a terminal."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from pathlib import Path

from textual.pilot import Pilot

from opentau.errors import RunError
from tui.app import LoopApp

DEADLINE_S = 60.0
LOOK_S = 0.05
NUM_SAME = 3
"""Looks at a screen that must agree before it counts as complete."""
_SHORTER = tuple(
    (re.compile(pattern), short)
    for pattern, short in (
        (r"@font-face\s*\{[^}]*\}\s*", ""),
        (r"terminal-\d+", "t"),
        (r'<clipPath id="t-line-\d+">\s*<rect [^>]*/>\s*</clipPath>', ""),
        (r' clip-path="url\(#t-line-\d+\)"', ""),
        (r"&#160;", "\u00a0"),
    )
)
"""What a picture of a screen does without: fonts from elsewhere, long names, and an edge for every row."""


def export_screens(app: LoopApp, views: Sequence[str], folder: Path, *, size: tuple[int, int]) -> list[Path]:
    """Write one `<screen>.svg` for every view of a run and return their paths; `size` in columns and rows.

    Raises `RunError` where a screen does not come to rest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    failed: list[str] = []

    async def draw(pilot: Pilot[object]) -> None:
        for view in views:
            await app.run_screen.action_view(view)
            if not await _comes_to_rest(app, pilot):
                failed.append(view)
            path = folder / f"{view}.svg"
            path.write_text(svg_of(app), encoding="utf-8")
            written.append(path)
        app.exit()

    asyncio.run(app.run_async(headless=True, size=size, auto_pilot=draw))
    if failed:
        raise RunError(f"{', '.join(failed)} did not come to rest within {DEADLINE_S:g} s; a run that is over does")
    return written


def svg_of(app: LoopApp) -> str:
    """Return the screen as SVG, small, that asks nobody for fonts: the viewer's own fixed-width font stands in."""
    drawn = app.export_screenshot(simplify=True)
    for pattern, short in _SHORTER:
        drawn = pattern.sub(short, drawn)
    return drawn


async def _comes_to_rest(app: LoopApp, pilot: Pilot[object]) -> bool:
    """Wait until nothing is read any more and the screen stays as it is; return whether that came in time."""
    deadline, seen = time.monotonic() + DEADLINE_S, list[str]()
    while time.monotonic() < deadline:
        await pilot.pause(LOOK_S)
        seen.append("\n".join(strip.text for strip in app.screen._compositor.render_strips()))
        is_still = len(seen) >= NUM_SAME and len({*seen[-NUM_SAME:]}) == 1
        if is_still and app.run_screen.is_shown and not app.run_screen.is_reading:
            return True
    return False
