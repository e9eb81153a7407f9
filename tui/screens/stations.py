"""Simulators and robots: all of them in a table or a grid, and everything about the chosen one."""

from __future__ import annotations

from textual.app import ComposeResult

from opentau.runstate import RunSummary, StationState
from tui.panels import ListPanel, Panel
from tui.text.lines import Line
from tui.text.stations import station_cells, station_detail, station_rows
from tui.views import View

GRID_FROM = 17
"""Stations from which an overview in small cells stands above the table."""


class StationsView(View):
    """The fleet."""

    def compose(self) -> ComposeResult:
        yield Panel(station_cells, id="grid", title="All stations: successes of episodes")
        yield ListPanel(station_rows, id="table", title="Stations")
        yield Panel(self._detail, id="detail", title="Chosen station")

    def show(self) -> None:
        self.query_one("#grid").display = len(self.summary.stations) >= GRID_FROM
        super().show()

    @property
    def chosen(self) -> StationState | None:
        """Return the station at the cursor."""
        stations = self.summary.stations
        return stations[min(self.query_one("#table", ListPanel).cursor, len(stations) - 1)] if stations else None

    def context(self) -> dict[str, object]:
        station = self.chosen
        return {"station": station.name, "target": station.name} if station is not None else {}

    def on_list_panel_chosen(self) -> None:
        self.show()

    def _detail(self, summary: RunSummary, now: float, width: int) -> list[Line]:
        station = self.chosen
        return station_detail(station, summary, now, width) if station is not None else [[("no station yet", "dim")]]
