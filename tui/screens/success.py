"""How often policies succeed: rates, paired differences, throughput, how episodes end, and rates of single tasks."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal

from tui.panels import Panel
from tui.text.success import difference_rows, failure_rows, success_rows, task_rows, throughput_rows
from tui.views import View


class SuccessView(View):
    """Numbers that say whether the run is worth its time."""

    def compose(self) -> ComposeResult:
        with Horizontal(classes="row"):
            yield Panel(success_rows, id="rates", title="Success, 95 % intervals", is_tail=True)
            yield Panel(task_rows, id="tasks", title="Tasks, from light to dark")
        yield Panel(difference_rows, id="differences", title="Candidate minus incumbent, 95 % intervals", is_tail=True)
        with Horizontal(classes="row"):
            yield Panel(failure_rows, id="failures", title="How episodes end")
            yield Panel(throughput_rows, id="throughput", title="Throughput", is_tail=True)
