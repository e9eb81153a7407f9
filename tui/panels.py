"""The widgets of the screens: panels that draw a summary as lines of text and hold nothing but where the reader is."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Click, Resize
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip
from textual.visual import Visual

from opentau.runstate import RunSummary
from tui.text.lines import Draw, Line, cut, plain

STYLES = {
    "": "",
    "strong": "bold",
    "dim": "dim",
    "accent": "$accent",
    "good": "bold $success",
    "warning": "bold $warning",
    "bad": "bold $error",
}
CURSOR, NO_CURSOR = "▸ ", "  "


class Panel(ScrollView):
    """Shows what `draw` says of the newest summary, and redraws when its own size changes.

    It draws its rows itself and sets how many there are, so that where it is scrolled to never waits for a layout.
    """

    def __init__(self, draw: Draw, *, id: str, title: str = "", marker: str = "", is_tail: bool = False) -> None:
        super().__init__(id=id)
        self.border_title = title
        self._draw_lines = draw
        self._marker = marker
        """Keep the line that begins with this glyph in sight."""
        self._is_tail = is_tail
        """Stay at the end while the reader has not scrolled up."""
        self._is_at_end = True
        self._shown: tuple[RunSummary, float] | None = None
        self._lines: list[Line] = []
        self._rows: list[Strip] = []
        """The lines in colours, once they were asked for."""
        self._marked_row = -1

    def show(self, summary: RunSummary, now: float) -> None:
        """Draw a summary; a screen that would look the same is left alone."""
        self._shown = (summary, now)
        if not self.size:
            return  # not laid out yet; its first size draws
        lines = [cut(line, self._width) for line in self._drawn(summary, now)]
        if lines != self._lines:
            self._lines, self._rows = lines, []
            self.virtual_size = Size(self._width, len(lines))
            self._refresh_scrollbars()  # now, so that it can be scrolled now
            self.refresh()
        self._keep_place()

    def redraw(self) -> None:
        """Draw the same summary again, after something else changed."""
        if self._shown is not None:
            self.show(*self._shown)

    def render_line(self, y: int) -> Strip:
        if not self._rows:
            content = Content("\n").join(_content(line) for line in self._lines)
            self._rows = Visual.to_strips(self, content, self._width, None, self.visual_style)
        row = self.scroll_offset.y + y
        strip = self._rows[row] if row < len(self._rows) else Strip.blank(0)
        return strip.adjust_cell_length(self.size.width, self.visual_style.rich_style).apply_offsets(0, row)

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._rows = []

    def get_selection(self, selection: Selection) -> tuple[str, str]:
        return selection.extract("\n".join(plain(line) for line in self._lines)), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        self._rows = []
        self.refresh()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self._is_at_end = self.is_vertical_scroll_end

    @property
    def _width(self) -> int:
        """Return the columns of the text; one is kept for the scroll bar."""
        return self.scrollable_content_region.width

    def _drawn(self, summary: RunSummary, now: float) -> list[Line]:
        return self._draw_lines(summary, now, self._width)

    def _keep_place(self) -> None:
        """Scroll to the end where it belongs there, and to the marked line when that is another one."""
        if self._is_tail and self._is_at_end:
            self.scroll_to(y=self.max_scroll_y, animate=False)
        rows = [row for row, line in enumerate(self._lines) if self._marker and plain(line).startswith(self._marker)]
        if rows and rows[0] != self._marked_row:
            self._marked_row = rows[0]
            self.scroll_to(y=max(0, rows[0] - self.size.height // 2), animate=False)

    def on_resize(self, _: Resize) -> None:
        self._rows = []
        self._marked_row = -1
        self.redraw()


class ListPanel(Panel):
    """A panel whose lines, after a head of one, can be chosen with the arrow keys or the mouse."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "up", show=False),
        Binding("down,j", "move(1)", "down", show=False),
        Binding("pageup", "move(-10)", "page up", show=False),
        Binding("pagedown", "move(10)", "page down", show=False),
        Binding("home,g", "move(-1000000)", "first", show=False),
        Binding("end,G", "move(1000000)", "last", show=False),
    ]

    class Chosen(Message):
        """Another line was chosen."""

        def __init__(self, panel: ListPanel) -> None:
            super().__init__()
            self.panel = panel

        @property
        def control(self) -> ListPanel:
            return self.panel

    def __init__(self, draw: Draw, *, id: str, title: str = "") -> None:
        super().__init__(draw, id=id, title=title, marker=CURSOR)
        self.cursor = 0
        """The chosen line, counted from zero after the head."""

    def _drawn(self, summary: RunSummary, now: float) -> list[Line]:
        head, *rows = self._draw_lines(summary, now, self._width - len(CURSOR))
        self.cursor = max(0, min(self.cursor, len(rows) - 1))
        marks = [(CURSOR, "accent") if i == self.cursor else (NO_CURSOR, "") for i in range(len(rows))]
        return [[(NO_CURSOR, ""), *head], *([mark, *row] for mark, row in zip(marks, rows, strict=True))]

    def action_move(self, step: int) -> None:
        self._choose(self.cursor + step)

    def on_click(self, event: Click) -> None:
        offset = event.get_content_offset(self)
        if offset is not None:
            self._choose(offset.y + round(self.scroll_y) - 1)

    def _choose(self, cursor: int) -> None:
        before = self.cursor
        self.cursor = max(0, cursor)
        self._marked_row = -1
        self.redraw()
        if self.cursor != before:
            self.post_message(self.Chosen(self))


def _content(line: Line) -> Content:
    return Content.assemble(*((text, STYLES.get(style, style)) for text, style in line))
