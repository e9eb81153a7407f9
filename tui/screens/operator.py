"""What a person at the robots is asked: which scene to set up, and what came of an episode."""

from __future__ import annotations

from textual.app import ComposeResult

from opentau.runstate import RunSummary
from tui.panels import Panel
from tui.text.lines import Line
from tui.text.operator import order_rows, prompt_rows
from tui.views import View


class OperatorView(View):
    """The prompt of the robot that waits, and the blind order of a comparison."""

    def compose(self) -> ComposeResult:
        yield Panel(self._prompt, id="prompt", title="Set up and judge")
        yield Panel(self._order, id="order", title="Blind order")

    def _prompt(self, summary: RunSummary, now: float, width: int) -> list[Line]:
        return prompt_rows(summary, now, width)

    def _order(self, summary: RunSummary, now: float, width: int) -> list[Line]:
        return order_rows(summary, now, width)
