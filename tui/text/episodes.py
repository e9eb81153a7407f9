"""The episodes of a run, the newest first, and one of them as a filmstrip."""

from __future__ import annotations

import time
from collections.abc import Mapping

from opentau.runfiles import Film
from opentau.runstate import EpisodeFacts, RunSummary
from opentau.types import Outcome, Source
from tui.text.lines import Line, Span, cut, table
from tui.text.pictures import beside, picture_lines
from tui.text.success import OUTCOME_STYLES

OUTCOME_GLYPHS = {
    Outcome.SUCCESS: "✓",
    Outcome.FAILURE: "✗",
    Outcome.TIMEOUT: "○",
    Outcome.ABORTED: "-",
    Outcome.ERROR: "!",
}
FILTERS = ("recorded", "failures", "successes", "helped", "all")
RECORDED_WORKS = ("demonstrations-", "collect-")
"""Stages that keep the frames of their episodes."""


def chosen_episodes(summary: RunSummary, chosen: str = FILTERS[0]) -> list[EpisodeFacts]:
    """Return the newest episodes of a kind of `FILTERS`, the newest first; all but the last kind have pictures."""
    newest = list(reversed(summary.episodes))
    if chosen == "all":
        return newest
    newest = [episode for episode in newest if episode.stage.startswith(RECORDED_WORKS)]
    if chosen == "recorded":
        return newest
    if chosen == "helped":
        return [episode for episode in newest if episode.num_intervention_steps]
    return [episode for episode in newest if (episode.outcome == Outcome.SUCCESS) == (chosen == "successes")]


def episode_rows(episodes: list[EpisodeFacts], labels: Mapping[str, str], width: int) -> list[Line]:
    """Return a head and a line per episode; `labels`: what persons said of episodes, by id."""
    if not episodes:
        return [[("no episode yet", "dim")]]
    rows: list[list[Span]] = []
    for episode in episodes:
        outcome = Outcome(episode.outcome) if episode.outcome in list(Outcome) else Outcome.ERROR
        said = labels.get(episode.episode_id, "")
        rows.append(
            [
                (f"{OUTCOME_GLYPHS[outcome]} {episode.episode_id}", ""),
                (episode.outcome + (f" → {said}" if said else ""), OUTCOME_STYLES[outcome]),
                (str(episode.num_steps), ""),
                (str(episode.num_intervention_steps or ""), "warning"),
                (time.strftime("%H:%M:%S", time.localtime(episode.t)), "dim"),
                (episode.station, "dim"),
            ]
        )
    return table(("episode", "outcome", "steps", "helped", "at", "station"), rows, width, left=2)


def filmstrip(film: Film | None, width: int, *, rows: int, is_ascii: bool = False) -> list[Line]:
    """Return the pictures of an episode side by side, `rows` high, with the step below each and who acted in it."""
    if film is None:
        return [[("no pictures of this episode here", "dim")]]
    if not len(film.pictures):
        return [[(f"{film.episode_id} has no pictures", "dim")]]
    height, y_x = max(2, rows - 2), film.pictures.shape[1:3]
    columns = max(4, min(round(2 * height * y_x[1] / y_x[0]), max(4, width - 1)))
    num_shown = max(1, min(len(film.pictures), width // (columns + 1)))
    chosen = [round(i * (len(film.pictures) - 1) / max(1, num_shown - 1)) for i in range(num_shown)]
    blocks: list[list[Line]] = []
    for i in chosen:
        block = picture_lines(film.pictures[i], columns=columns, rows=height, is_ascii=is_ascii)
        cells = sum(len(text) for text, _ in block[0])
        tick = film.ticks[i]
        is_helped = film.source[tick] == Source.INTERVENTION
        block.append([(f"{'▲' if is_helped else ' '}{tick}".ljust(cells)[:cells], "warning" if is_helped else "dim")])
        blocks.append(block)
    told = f"{film.camera} of {', '.join(film.cameras)} · {film.prompt}"
    return [cut([(told, "dim")], width), *beside(blocks)]
