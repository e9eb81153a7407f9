"""Recorded episodes: choose one and see its pictures and what the critic made of it."""

from __future__ import annotations

import time

from textual import work
from textual.app import ComposeResult

from opentau.errors import OpenTauError
from opentau.runfiles import Film
from opentau.runstate import EpisodeFacts, RunSummary
from tui.panels import ListPanel, Panel
from tui.text.episodes import FILTERS, chosen_episodes, episode_rows, filmstrip
from tui.text.lines import Line
from tui.text.value import trace_rows
from tui.views import Surroundings, View

NUM_PICTURES = 16
LISTED = 200
DELAY_S = 0.15
"""An episode is read once the cursor has rested on it for so long."""


class EpisodesView(View):
    """The newest episodes first."""

    def __init__(self, name: str, surroundings: Surroundings) -> None:
        super().__init__(name, surroundings)
        self._filter = FILTERS[0]
        self._camera = 0
        self._films: dict[tuple[str, str, int], Film | None] = {}
        """What was read of the newest few, by stage, episode and number of the camera."""
        self._asked: tuple[str, str, int] | None = None

    def compose(self) -> ComposeResult:
        yield ListPanel(self._table, id="episodes", title=f"Episodes: {FILTERS[0]}")
        yield Panel(self._filmstrip, id="film", title="Pictures")
        yield Panel(self._trace, id="course", title="Values")

    @property
    def listed(self) -> list[EpisodeFacts]:
        return chosen_episodes(self.summary, self._filter)[:LISTED]

    @property
    def chosen(self) -> EpisodeFacts | None:
        """Return the episode at the cursor."""
        listed = self.listed
        return listed[min(self.query_one("#episodes", ListPanel).cursor, len(listed) - 1)] if listed else None

    def show(self) -> None:
        super().show()
        self._want_film()

    def cycle_filter(self) -> None:
        self._filter = FILTERS[(FILTERS.index(self._filter) + 1) % len(FILTERS)]
        self.query_one("#episodes").border_title = f"Episodes: {self._filter}"
        self.show()

    def next_camera(self) -> None:
        self._camera += 1
        self.show()

    def on_list_panel_chosen(self) -> None:
        self.show()

    def context(self) -> dict[str, object]:
        return {"target": self.chosen.episode_id} if self.chosen is not None else {}

    def _key(self) -> tuple[str, str, int] | None:
        episode = self.chosen
        return (episode.stage, episode.episode_id, self._camera) if episode is not None else None

    def _want_film(self) -> None:
        key = self._key()
        if key is not None and key != self._asked and key not in self._films and self.surroundings.files is not None:
            self._asked = key
            self._load(key)

    @work(thread=True, group="film", exclusive=True)
    def _load(self, key: tuple[str, str, int]) -> None:
        files, (stage, episode_id, number) = self.surroundings.files, key
        time.sleep(DELAY_S)
        if files is None or key != self._key():
            return
        film = None
        try:
            film = files.film(stage, episode_id, num_pictures=NUM_PICTURES)
            if film is not None and number % len(film.cameras):
                camera = film.cameras[number % len(film.cameras)]
                film = files.film(stage, episode_id, num_pictures=NUM_PICTURES, camera=camera)
        except OpenTauError as error:
            self.app.call_from_thread(self.notify, str(error), severity="error")
        while len(self._films) > LISTED // 10:
            del self._films[next(iter(self._films))]
        self._films[key] = film
        self.app.call_from_thread(self.show)

    def _table(self, summary: RunSummary, now: float, width: int) -> list[Line]:
        return episode_rows(self.listed, summary.labels, width)

    def _filmstrip(self, summary: RunSummary, now: float, width: int) -> list[Line]:
        if self.surroundings.files is None:
            return [[("pictures lie on the run's own machine; its events are all that comes here", "dim")]]
        rows = max(3, self.query_one("#film").size.height)
        return filmstrip(self._films.get(self._key() or ("", "", 0)), width, rows=rows, is_ascii=self.surroundings.is_ascii)

    def _trace(self, summary: RunSummary, now: float, width: int) -> list[Line]:
        height = max(2, self.query_one("#course").size.height - 4)
        return trace_rows(self._films.get(self._key() or ("", "", 0)), width, height=height)
