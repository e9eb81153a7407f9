"""What a person at the stations has to do, and the order of policies in a blind comparison, which never names them."""

from __future__ import annotations

from opentau.runstate import RunSummary, StageStatus
from opentau.types import Outcome
from tui.text.episodes import OUTCOME_GLYPHS
from tui.text.lines import Line, Span, cut, table, wrapped

GATE = "gate"
HINT = "s success, f failure, u take it back, x discard; t takes over, T hands back"


def judged_rows(summary: RunSummary, now: float, width: int) -> list[Line]:
    """Return a head and a line per station: who has it in hand, its last episode, and what persons said of that."""
    if not summary.stations:
        return [[("no station yet", "dim")]]
    newest = {episode.station: episode for episode in sorted(summary.episodes, key=lambda episode: episode.t)}
    rows: list[list[Span]] = []
    for station in summary.stations:
        episode = newest.get(station.name)
        said = summary.labels.get(episode.episode_id, "") if episode is not None else ""
        rows.append(
            [
                (station.name, ""),
                ("STOPPED" if station.is_stopped else station.operator or "-", "bad" if station.is_stopped else "accent"),
                (station.episode_id or "-", ""),
                (episode.outcome if episode is not None else "-", "dim"),
                (said or "-", "strong"),
            ]
        )
    return table(("station", "in hand of", "episode", "outcome", "a person says"), rows, width, left=5)


def prompt_rows(summary: RunSummary, now: float, width: int) -> list[Line]:
    """Return what is to be done now, and how."""
    lines: list[Line] = []
    stage = summary.current
    if stage is None:
        lines.append([("nothing plays now", "dim")])
    else:
        lines.append([(f"{stage.name} is on: ", "strong"), ("a robot asks at its own terminal for its scene to be set up", "")])
    for station in summary.stations:
        if station.is_stopped:
            lines.append([(f"{station.name} is stopped: ", "bad"), ("look at it, then clear it", "")])
    return [cut(line, width) for line in lines] + wrapped(HINT, width, "dim")


def order_rows(summary: RunSummary, now: float, width: int) -> list[Line]:
    """Return the outcomes of the newest gate in the order of play; which policy acted is told by its verdict only."""
    gates = [stage for stage in summary.stages if stage.work == GATE and stage.status is not StageStatus.WAITING]
    if not gates:
        return [[("no comparison yet", "dim")]]
    gate = gates[-1]
    played = [episode for episode in summary.episodes if episode.stage == gate.name]
    marks = "".join(OUTCOME_GLYPHS.get(Outcome(episode.outcome), "?") for episode in played)
    done = gate.status is StageStatus.FINISHED
    words = "its verdict is on screen 6" if done else "which policy acts is not shown while it goes on"
    head: Line = [(f"{gate.name}, {len(played)} episodes: ", "strong"), (words, "dim")]
    return [cut(head, width), *wrapped(marks, width)]
