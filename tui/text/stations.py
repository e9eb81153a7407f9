"""Simulators and robots: a line or a cell each, and everything about one of them."""

from __future__ import annotations

from opentau.runstate import RunSummary, StationState, duration_text, number_text
from tui.text.lines import Line, Span, clock, cut, percent

STATE_GLYPHS = {
    "started": ("○", "dim"),
    "connected": ("●", "good"),
    "lost": ("✗", "bad"),
    "replaced": ("●", "warning"),
    "stopped": ("■", "dim"),
}
STALE_S = 180.0
"""A station that should be playing and is not heard of for this long is marked; a long episode says nothing before its end."""
LINK_STALE_S = 15.0
"""The same for a station that tells how its link does, which it does every few seconds."""
CELL_WIDTH = 26


def is_stale(station: StationState, summary: RunSummary, now: float) -> bool:
    limit_s = LINK_STALE_S if station.link_t else STALE_S
    return station.state in ("connected", "replaced") and not summary.phase.is_over and now - station.t > limit_s


def station_rows(summary: RunSummary, now: float, width: int) -> list[Line]:
    """Return a head and one line per station."""
    if not summary.stations:
        return [[("no station yet", "dim")]]
    name_width = max(7, *(len(station.name) for station in summary.stations))
    return [
        cut(
            [
                (
                    f"{'station':<{name_width}} {'state':<11} {'played':>6} {'ok':>4} {'lost':>4} {'heard':>6} {'clamps':>6}",
                    "dim",
                )
            ],
            width,
        ),
        *(_station_row(station, summary, now, width, name_width=name_width) for station in summary.stations),
    ]


def _station_row(station: StationState, summary: RunSummary, now: float, width: int, *, name_width: int) -> Line:
    counts = f" {station.num_episodes:>6} {station.num_successes:>4} {station.num_lost:>4}"
    heard = f" {clock(max(0.0, now - station.t)):>6} {station.num_clipped:>6}"
    cells: Line = [(f"{station.name:<{name_width}} ", ""), *_state(station, summary, now), (counts + heard, "")]
    has_room = width - sum(len(text) for text, _ in cells) >= 16
    return cut([*cells, (f"  {station.text}", "dim")] if has_room else cells, width)


def _state(station: StationState, summary: RunSummary, now: float) -> Line:
    glyph, style = STATE_GLYPHS.get(station.state, ("○", "dim"))
    if station.is_stopped:
        glyph, style, word = "■", "bad", "STOPPED"  # latched until a person clears it
    elif station.operator:
        glyph, style, word = "▲", "accent", "in hand"
    elif is_stale(station, summary, now):
        glyph, style, word = "!", "warning", "silent"
    elif station.hold:
        glyph, style, word = "‖", "warning", "holds"
    else:
        word = station.state
    return [(f"{glyph} {word:<9}", style)]


def station_cells(summary: RunSummary, now: float, width: int) -> list[Line]:
    """Return the stations as a grid of small cells, row by row: glyph, name, successes of episodes."""
    per_row = max(1, width // CELL_WIDTH)
    lines: list[Line] = []
    for start in range(0, len(summary.stations), per_row):
        line: Line = []
        for station in summary.stations[start : start + per_row]:
            line += station_cell(station, summary, now)
        lines.append(cut(line, width))
    return lines or [[("no station yet", "dim")]]


def station_cell(station: StationState, summary: RunSummary, now: float) -> Line:
    """Return one cell of the grid, `CELL_WIDTH` columns."""
    [(state, style)] = _state(station, summary, now)
    counts = f"{station.num_successes}/{station.num_episodes}"
    room = CELL_WIDTH - 4 - len(counts)
    return [(state[:2], style), (f"{station.name[-room:]:<{room}}", ""), (f"{counts} ", "dim"), (" ", "")]


def station_detail(station: StationState, summary: RunSummary, now: float, width: int) -> list[Line]:
    """Return everything that is known of one station."""
    rate = station.num_successes / max(1, station.num_episodes)
    rows: list[tuple[str, Span]] = [
        ("state", (f"{station.state} {station.text}".strip(), _state(station, summary, now)[0][1])),
        ("in hand of", (station.operator or "nobody", "accent" if station.operator else "dim")),
        ("link", (_link(station, now), "warning" if is_stale(station, summary, now) else "")),
        ("episodes", (f"{station.num_successes} of {station.num_episodes} succeed, {percent(rate)}", "")),
        ("last ones", (" ".join(station.recent) or "none yet", "dim")),
        ("steps", (f"{station.num_steps}", "")),
        ("clamped", (f"{station.num_clipped} actions were cut to limits", "warning" if station.num_clipped else "")),
        ("late", (f"{station.num_refused} chunks refused, {station.num_held} ticks held", "")),
    ]
    if station.hold:
        rows.insert(1, ("holds", (f"{station.hold}: it has no fresh action", "warning")))
    if station.answer_ms is not None and station.obs_age_ms is not None:
        words = f"after {number_text(station.answer_ms)} ms, to what was seen {number_text(station.obs_age_ms)} ms before"
        rows.append(("answers", (words, "")))
    if station.is_stopped:
        rows.insert(1, ("STOPPED", ("by a person; clear lets a simulator go on, a robot is re-armed on the spot", "bad")))
    if station.num_fallbacks:
        rows.append(("stand-ins", (f"{station.num_fallbacks} chunks", "warning")))
    if station.jitter_ms is not None:
        rows.append(("jitter", (f"{station.jitter_ms:.1f} ms, 99th percentile of its last episode", "")))
    if station.human_s:
        rows.append(("a person's", (f"{duration_text(station.human_s)}", "")))
    return [cut([(f"{station.name}", "strong")], width), *(cut([(f"{name:<12}", "dim"), span], width) for name, span in rows)]


def _link(station: StationState, now: float) -> str:
    heard = f"heard {clock(max(0.0, now - station.t))} ago, lost {station.num_lost} times"
    if station.round_trip_ms is None or station.round_trip_p95_ms is None:
        return heard
    p50, p95 = number_text(station.round_trip_ms), number_text(station.round_trip_p95_ms)
    return f"{heard}; {p50} ms there and back, 95 % within {p95}"
