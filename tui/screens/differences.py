"""What was configured otherwise: from start to start of the run, and from iteration to iteration."""

from __future__ import annotations

from textual.app import ComposeResult

from opentau.runstate import RunSummary
from tui.panels import Panel
from tui.text.differences import attempt_rows, iteration_rows
from tui.text.lines import Line
from tui.views import Surroundings, View


class DifferencesView(View):
    """The newest iteration, or an earlier one, against the one before it."""

    def __init__(self, name: str, surroundings: Surroundings) -> None:
        super().__init__(name, surroundings)
        self._back = 0
        """Iterations back from the newest."""

    def compose(self) -> ComposeResult:
        yield Panel(self._attempts, id="attempts", title="Starts of the run", is_tail=True)
        yield Panel(self._iterations, id="inputs", title="Inputs of stages")

    @property
    def iteration(self) -> int:
        newest = self.summary.iteration or 0
        self._back = max(0, min(self._back, newest))
        return newest - self._back

    def change_iteration(self, step: int) -> None:
        self._back -= step
        self.show()

    def _attempts(self, summary: RunSummary, now: float, width: int) -> list[Line]:
        return attempt_rows(summary, width)

    def _iterations(self, summary: RunSummary, now: float, width: int) -> list[Line]:
        self.query_one("#inputs").border_title = f"Inputs of iteration {self.iteration} against the one before"
        return iteration_rows(summary, self.surroundings.stages, self.iteration, width)
