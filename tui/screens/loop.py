"""The loop: stages, success, stations, training and log of a run at a glance."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from tui.panels import Panel
from tui.text.log import log_rows
from tui.text.loop import stage_rows
from tui.text.stations import station_rows
from tui.text.success import success_rows
from tui.text.training import curve_rows
from tui.views import View


class LoopView(View):
    """Everything a little."""

    def compose(self) -> ComposeResult:
        with Horizontal(id="body"):
            yield Panel(stage_rows, id="stages", title="Stages", marker="●")
            with Vertical(id="results"):
                yield Panel(success_rows, id="success", title="Success, 95 % intervals", is_tail=True)
                yield Panel(station_rows, id="stations", title="Stations")
                yield Panel(curve_rows, id="curves", title="Training")
        yield Panel(log_rows, id="log", title="Log", is_tail=True)
