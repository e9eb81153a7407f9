"""The widgets of the screen: a scrolling panel that draws a summary as lines of text and holds nothing else."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.events import Resize
from textual.widgets import Static

from opentau.runstate import RunSummary
from tui.text import Draw, Line, plain

STYLES = {
    "": "",
    "strong": "bold",
    "dim": "dim",
    "accent": "$accent",
    "good": "bold $success",
    "warning": "bold $warning",
    "bad": "bold $error",
}


class Panel(VerticalScroll):
    """Shows what `draw` says of the newest summary, and redraws when its own width changes."""

    def __init__(self, draw: Draw, *, id: str, title: str = "", marker: str = "", is_tail: bool = False) -> None:
        super().__init__(id=id)
        self.border_title = title
        self._draw = draw
        self._marker = marker
        """Keep the line that begins with this glyph in sight."""
        self._is_tail = is_tail
        """Stay at the end while the reader has not scrolled up."""
        self._shown: tuple[RunSummary, float] | None = None
        self._lines: list[Line] = []
        self._marked_row = -1

    def compose(self) -> ComposeResult:
        yield Static()

    def show(self, summary: RunSummary, now: float) -> None:
        """Draw a summary; a screen that would look the same is left alone."""
        self._shown = (summary, now)
        lines = self._draw(summary, now, self.scrollable_content_region.width)
        if lines == self._lines:
            return
        was_at_end = self.is_vertical_scroll_end
        self._lines = lines
        self.query_one(Static).update(Content("\n").join(_content(line) for line in lines))
        if self._is_tail and was_at_end:
            self.scroll_end(animate=False)
        self._keep_marked_row_in_sight()

    def _keep_marked_row_in_sight(self) -> None:
        rows = [row for row, line in enumerate(self._lines) if self._marker and plain(line).startswith(self._marker)]
        if rows and rows[0] != self._marked_row:
            self._marked_row = rows[0]
            self.scroll_to(y=max(0, rows[0] - self.size.height // 2), animate=False)

    def on_resize(self, _: Resize) -> None:
        if self._shown is not None:
            self.show(*self._shown)


def _content(line: Line) -> Content:
    return Content.assemble(*((text, STYLES[style]) for text, style in line))
