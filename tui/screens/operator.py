"""What a person at the stations has to do: say what came of episodes, take over, and see the scene."""

from __future__ import annotations

import numpy as np
from textual import work
from textual.app import ComposeResult
from textual.containers import Horizontal

from opentau.errors import OpenTauError
from opentau.runstate import RunSummary, StationState
from tui.panels import ListPanel, Panel
from tui.text.episodes import RECORDED_WORKS
from tui.text.lines import Line
from tui.text.operator import judged_rows, order_rows, prompt_rows
from tui.text.pictures import picture_lines
from tui.views import Surroundings, View


class OperatorView(View):
    """Stations with their last episodes; the chosen one's scene."""

    def __init__(self, name: str, surroundings: Surroundings) -> None:
        super().__init__(name, surroundings)
        self._scene: tuple[str, np.ndarray | None] | None = None
        """Which station, and its picture uint8 [Y, X, 3]; None before it was looked for."""
        self._asked: tuple[str, str] | None = None

    def compose(self) -> ComposeResult:
        yield ListPanel(judged_rows, id="judged", title="Stations and their last episodes")
        with Horizontal(classes="row"):
            yield Panel(self._prompt, id="prompt", title="To do")
            yield Panel(self._picture, id="scene", title="Scene as its last recorded episode began")
        yield Panel(order_rows, id="order", title="Blind order")

    @property
    def chosen(self) -> StationState | None:
        """Return the station at the cursor."""
        stations = self.summary.stations
        return stations[min(self.query_one("#judged", ListPanel).cursor, len(stations) - 1)] if stations else None

    def context(self) -> dict[str, object]:
        return {"station": self.chosen.name, "target": self.chosen.name} if self.chosen is not None else {}

    def show(self) -> None:
        super().show()
        station = self.chosen
        asked = (station.name, station.episode_id) if station is not None else None
        if asked is not None and asked != self._asked and self.surroundings.look is not None:
            self._asked = asked
            self._load(asked[0])

    def on_list_panel_chosen(self) -> None:
        self.show()

    @work(thread=True, group="scene", exclusive=True)
    def _load(self, station: str) -> None:
        files, look = self.surroundings.files, self.surroundings.look
        recorded = [
            episode
            for episode in self.summary.episodes
            if episode.station == station and episode.stage.startswith(RECORDED_WORKS)
        ]
        pixels = None
        try:
            live = look(station) if look is not None else None
            if live is not None and live.pictures:
                pixels = next(iter(live.pictures.values()))
            elif recorded and files is not None:
                film = files.film(recorded[-1].stage, recorded[-1].episode_id, num_pictures=2)
                pixels = film.pictures[0] if film is not None else None
        except OpenTauError as error:
            self.app.call_from_thread(self.notify, str(error), severity="error")
        self._scene = (station, pixels)
        self.app.call_from_thread(self.show)

    def _prompt(self, summary: RunSummary, now: float, width: int) -> list[Line]:
        return prompt_rows(summary, now, width)

    def _picture(self, summary: RunSummary, now: float, width: int) -> list[Line]:
        if self._scene is None or self.chosen is None or self._scene[0] != self.chosen.name or self._scene[1] is None:
            return [[("no picture of it here", "dim")]]
        rows = max(2, self.query_one("#scene").size.height)
        return picture_lines(self._scene[1], columns=width, rows=rows, is_ascii=self.surroundings.is_ascii)
