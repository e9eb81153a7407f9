"""The trainings of a run: the chosen one's loss as a chart, its metrics, and how the machine does."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal

from opentau.runstate import RunSummary
from tui.panels import Panel
from tui.text.lines import Line
from tui.text.training import curve_rows, loss_chart, machine_rows, trained_stages
from tui.views import Surroundings, View


class TrainingView(View):
    """The newest training, or an earlier one."""

    def __init__(self, name: str, surroundings: Surroundings) -> None:
        super().__init__(name, surroundings)
        self._back = 0
        """Trainings back from the newest."""

    def compose(self) -> ComposeResult:
        yield Panel(self._chart, id="chart", title="Loss")
        with Horizontal(classes="row"):
            yield Panel(self._curves, id="metrics", title="Metrics")
            yield Panel(self._machine, id="machine", title="Rates and machine")

    @property
    def stage(self) -> str | None:
        """Return the training that is shown."""
        stages = trained_stages(self.summary)
        self._back = max(0, min(self._back, len(stages) - 1))
        return stages[-1 - self._back] if stages else None

    def change_iteration(self, step: int) -> None:
        self._back -= step
        self.show()

    def _chart(self, summary: RunSummary, now: float, width: int) -> list[Line]:
        panel = self.query_one("#chart")
        panel.border_title = f"Loss of {self.stage}" if self.stage else "Loss"
        return loss_chart(summary, now, width, stage=self.stage, height=max(3, panel.size.height - 3))

    def _curves(self, summary: RunSummary, now: float, width: int) -> list[Line]:
        return curve_rows(summary, now, width, stage=self.stage)

    def _machine(self, summary: RunSummary, now: float, width: int) -> list[Line]:
        return machine_rows(summary, now, width, stage=self.stage)
