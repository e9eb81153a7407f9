"""The critic and the labels of an iteration, and the values of an episode."""

from __future__ import annotations

from textual import work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from opentau.errors import OpenTauError
from opentau.labelfacts import LabelFacts
from opentau.runfiles import Film
from opentau.runstate import EpisodeFacts, RunSummary
from tui.panels import Panel
from tui.text.lines import Line
from tui.text.value import calibration_rows, histogram_rows, measure_rows, share_rows, trace_rows
from tui.views import Surroundings, View


class ValueView(View):
    """Advantages with the threshold, calibration, measures, and the newest episode in which somebody intervened."""

    def __init__(self, name: str, surroundings: Surroundings) -> None:
        super().__init__(name, surroundings)
        self._back = 0
        """Iterations back from the newest."""
        self._read: dict[int, LabelFacts | None] = {}
        """Labels that the events do not tell, as the files do."""
        self._film: Film | None = None
        self._asked: tuple[int | None, str] | None = None

    def compose(self) -> ComposeResult:
        with Horizontal(classes="row"):
            yield Panel(self._histogram, id="histogram", title="Advantages")
            with Vertical(id="critic"):
                yield Panel(self._shares, id="shares", title="Labels")
                yield Panel(self._measures, id="measures", title="Critic, out of fold")
        with Horizontal(classes="row"):
            yield Panel(self._calibration, id="calibration", title="Calibration")
            yield Panel(self._trace, id="trace", title="Values of an episode")

    @property
    def iteration(self) -> int | None:
        """Return the iteration that is shown, None before there is one with labels."""
        done = [stage.iteration for stage in self.summary.stages if stage.work == "label" and stage.seconds is not None]
        known = sorted({*(facts.iteration for facts in self.summary.labelled), *(one for one in done if one is not None)})
        self._back = max(0, min(self._back, len(known) - 1))
        return known[-1 - self._back] if known else None

    @property
    def facts(self) -> LabelFacts | None:
        number = self.iteration
        if number is None:
            return None
        return self.summary.labels_of(number) or self._read.get(number)

    def show(self) -> None:
        number = self.iteration
        title = "Advantages" if number is None else f"Advantages, iteration {number}"
        self.query_one("#histogram").border_title = title
        super().show()
        episode = self._episode()
        asked = (number, episode.episode_id if episode is not None else "")
        if number is not None and asked != self._asked and self.surroundings.files is not None:
            self._asked = asked
            self._load(number, episode)

    def change_iteration(self, step: int) -> None:
        self._back -= step
        self.show()

    def _episode(self) -> EpisodeFacts | None:
        """Return the newest recorded episode of the shown iteration, one with an intervention before others."""
        stage = f"collect-{self.iteration}"
        recorded = [episode for episode in self.summary.episodes if episode.stage == stage]
        helped = [episode for episode in recorded if episode.num_intervention_steps]
        return (helped or recorded)[-1] if recorded else None

    @work(thread=True, group="value-files", exclusive=True)
    def _load(self, iteration: int, episode: EpisodeFacts | None) -> None:
        files = self.surroundings.files
        if files is None:
            return
        try:
            if self.summary.labels_of(iteration) is None and iteration not in self._read:
                self._read[iteration] = files.labels(iteration)
            film = files.film(episode.stage, episode.episode_id, num_pictures=0) if episode is not None else None
            self._film = film
        except OpenTauError as error:
            self.app.call_from_thread(self.notify, str(error), severity="error")
        self.app.call_from_thread(self.show)

    def _histogram(self, summary: RunSummary, now: float, width: int) -> list[Line]:
        return histogram_rows(self.facts, width, height=max(3, self.query_one("#histogram").size.height - 5))

    def _shares(self, summary: RunSummary, now: float, width: int) -> list[Line]:
        return share_rows(self.facts, width)

    def _measures(self, summary: RunSummary, now: float, width: int) -> list[Line]:
        return measure_rows(summary, self.iteration or 0, width)

    def _calibration(self, summary: RunSummary, now: float, width: int) -> list[Line]:
        return calibration_rows(self.facts, width)

    def _trace(self, summary: RunSummary, now: float, width: int) -> list[Line]:
        return trace_rows(self._film, width, height=max(2, self.query_one("#trace").size.height - 4))
