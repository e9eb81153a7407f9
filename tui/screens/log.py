"""The run's story, filtered by level and searched."""

from __future__ import annotations

from textual.app import ComposeResult

from opentau.runstate import RunSummary
from tui.panels import Panel
from tui.text.lines import Line
from tui.text.log import LEVELS, chosen_lines, log_rows
from tui.views import Surroundings, View


class LogView(View):
    """Every line, or those that matter."""

    def __init__(self, name: str, surroundings: Surroundings) -> None:
        super().__init__(name, surroundings)
        self._level = LEVELS[0]
        self.search = ""

    def compose(self) -> ComposeResult:
        yield Panel(self._lines, id="lines", title="Log", is_tail=True)

    def enter(self) -> None:
        self.query_one("#lines").focus()

    def show(self) -> None:
        num_chosen = len(chosen_lines(self.summary, level=self._level, search=self.search))
        words = [f"Log: {num_chosen} lines"]
        if self._level != LEVELS[0]:
            words.append(f"{self._level} and worse")
        if self.search:
            words.append(f"with '{self.search}'")
        if self.summary.num_damaged:
            words.append(f"{self.summary.num_damaged} damaged")
        self.query_one("#lines").border_title = ", ".join(words)
        super().show()

    def cycle_filter(self) -> None:
        self._level = LEVELS[(LEVELS.index(self._level) + 1) % len(LEVELS)]
        self.show()

    def look_for(self, text: str | None) -> None:
        """Show the lines that contain a text; '' shows all, None changes nothing."""
        if text is not None:
            self.search = text
            self.show()

    def _lines(self, summary: RunSummary, now: float, width: int) -> list[Line]:
        return log_rows(summary, now, width, level=self._level, search=self.search)
