"""The report's charts: small functions from numbers to inline SVG, coloured by classes of the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

# All charts share one drawing area in user units; the page scales it to its column.
WIDTH, HEIGHT, AXIS_NAME_HEIGHT = 420, 220, 18
LEFT, RIGHT, TOP, BOTTOM = 46, 408, 14, 196
MAX_LINE_POINTS = 240
LOG_SPREAD = 30.0
"""Positive curves whose largest value exceeds the smallest by this factor are drawn on a logarithmic axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """A linear map from values to drawing units."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One estimate with its interval, or one bar."""

    group: str
    """Where it stands on the horizontal axis, for example 'iteration 1'."""
    series: int
    """Colour: 0 to 3."""
    value: float
    low: float | None = None
    high: float | None = None
    text: str = ""
    """Shown when the pointer rests on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line of a line chart."""

    name: str
    points: Sequence[tuple[float, float]]
    series: int
    """Colour: 0 to 3; further ones repeat with dashes."""


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Return round numbers (1, 2, 2.5 or 5 times a power of ten) in [low, high], about `count` of them."""
    raw = (high - low) / max(1, count - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def points(value: float) -> str:
    """Return a difference of two shares in percentage points."""
    return f"{100 * value:+.0f}".replace("-", "−") if value else "0"


def interval_chart(
    marks: Sequence[Mark], *, label: str, low: float, high: float, name: Callable[[float], str] = percent
) -> Markup:
    """Draw estimates as dots with whiskers, grouped along the horizontal axis; `name` writes a value."""
    y = Scale(low=low, high=high, start=BOTTOM, end=TOP)
    parts = _horizontal_grid(y, ticks(low, high), name) + _group_labels(marks)
    for mark, x, is_last in _placed(marks, spacing=26):
        parts.append(f'<g class="s{mark.series}"><title>{escape(mark.text)}</title>')
        if mark.low is not None and mark.high is not None:
            parts.append(_line(x, y(mark.low), x, y(mark.high), "whisker"))
            parts += [_line(x - 4, y(end), x + 4, y(end), "whisker") for end in (mark.low, mark.high)]
        parts.append(f'<circle cx="{x:.1f}" cy="{y(mark.value):.1f}" r="5"/></g>')
        at, style = (x + 9, "value") if is_last else (x - 9, "value end")
        parts.append(_text(at, y(mark.value) + 4, name(mark.value), style))
    return _svg(parts, label)


def bar_chart(marks: Sequence[Mark], *, label: str) -> Markup:
    """Draw one bar a mark, grouped along the horizontal axis, from zero; negative values hang below it."""
    values = [mark.value for mark in marks]
    top, bottom = max(0.0, *values), min(0.0, *values)
    room = 0.15 * (top - bottom) or 1.0  # for the numbers at the bars' ends
    y = Scale(low=bottom - room if bottom < 0 else 0.0, high=top + room, start=BOTTOM, end=TOP)
    parts = _horizontal_grid(y, ticks(y.low, y.high), _number) + _group_labels(marks)
    for mark, x, _ in _placed(marks, spacing=40):
        start, end = sorted((y(0.0), y(mark.value)))
        box = f'x="{x - 15:.1f}" y="{start:.1f}" width="30" height="{max(1.0, end - start):.1f}" rx="2"'
        parts.append(f'<rect class="s{mark.series}" {box}><title>{escape(mark.text)}</title></rect>')
        parts.append(_text(x, start - 5 if mark.value >= 0 else end + 13, _number(mark.value), "value middle"))
    return _svg(parts, label)


def histogram_chart(
    counts: Mapping[int, Sequence[int]], edges: Sequence[float], thresholds: Sequence[float], *, label: str
) -> Markup:
    """Draw stacked bars, {series: counts} between `edges`, and dashed lines at the thresholds."""
    totals = [sum(column) for column in zip(*counts.values(), strict=True)]
    x = Scale(low=edges[0], high=edges[-1], start=LEFT, end=RIGHT)
    y = Scale(low=0.0, high=max(1, *totals) * 1.08, start=BOTTOM, end=TOP)
    parts = _horizontal_grid(y, ticks(0.0, y.high), _number) + _vertical_labels(x, ticks(x.low, x.high), _number)
    floor = [0] * len(totals)
    for series, column in counts.items():
        for i, (left, right) in enumerate(pairwise(edges)):
            if column[i]:
                bottom, top = y(floor[i]), y(floor[i] + column[i])
                box = f'x="{x(left) + 0.5:.1f}" y="{top:.1f}" width="{x(right) - x(left) - 1:.1f}" height="{bottom - top:.1f}"'
                parts.append(f'<rect class="s{series}" {box}><title>{column[i]} frames</title></rect>')
                floor[i] += column[i]
    for threshold in thresholds:
        parts.append(_line(x(threshold), TOP, x(threshold), BOTTOM, "threshold"))
    return _svg(parts, label)


def calibration_chart(bins: Sequence[tuple[float, float, int]], *, label: str) -> Markup:
    """Draw predicted against realised returns, (predicted, realised, count); dots grow with their count."""
    values = [value for predicted, realised, _ in bins for value in (predicted, realised)]
    low, high = min(*values, -1.0), max(*values, 0.0)
    x, y = Scale(low=low, high=high, start=LEFT, end=RIGHT), Scale(low=low, high=high, start=BOTTOM, end=TOP)
    parts = _horizontal_grid(y, ticks(low, high), _number) + _vertical_labels(x, ticks(low, high), _number)
    parts.append(_line(x(low), y(low), x(high), y(high), "threshold"))
    largest = max(count for _, _, count in bins)
    for predicted, realised, count in bins:
        radius = 3 + 6 * math.sqrt(count / max(1, largest))
        text = f"predicted {predicted:.2f}, realised {realised:.2f}, {count} frames"
        circle = f'<circle class="s1 soft" cx="{x(predicted):.1f}" cy="{y(realised):.1f}" r="{radius:.1f}">'
        parts.append(f"{circle}<title>{escape(text)}</title></circle>")
    return _svg(parts, label, axis_name="predicted")


def line_chart(lines: Sequence[Series], *, label: str, x_label: str) -> Markup:
    """Draw curves over updates; points that are not finite are left out, wide positive ranges get a logarithmic axis."""
    kept = [(line, [point for point in line.points if math.isfinite(point[1])]) for line in lines]
    values = [value for _, points in kept for _, value in points] or [0.0]
    is_log = min(values) > 0 and max(values) > LOG_SPREAD * min(values)
    low, high = (math.log10(min(values)), math.log10(max(values))) if is_log else (min(0.0, *values), max(values))
    y = Scale(low=low, high=high if high > low else low + 1.0, start=BOTTOM, end=TOP)
    x = Scale(low=0.0, high=max((at for _, points in kept for at, _ in points), default=1.0) or 1.0, start=LEFT, end=RIGHT)
    parts = _vertical_labels(x, ticks(x.low, x.high), _number)
    parts += _horizontal_grid(y, ticks(y.low, y.high), (lambda power: _number(10**power)) if is_log else _number)
    for line, points in kept:
        drawn = points[:: math.ceil(len(points) / MAX_LINE_POINTS) or 1]
        path = " ".join(f"{x(at):.1f},{y(math.log10(v) if is_log else v):.1f}" for at, v in drawn)
        dash = ' stroke-dasharray="5 3"' if line.series > 3 else ""
        parts.append(
            f'<polyline class="s{line.series % 4} curve"{dash} points="{path}"><title>{escape(line.name)}</title></polyline>'
        )
    return _svg(parts, label, axis_name=x_label)


def _placed(marks: Sequence[Mark], *, spacing: float) -> list[tuple[Mark, float, bool]]:
    """Return every mark with its horizontal place and whether it is the last of its group.

    Groups share the width; marks of a group stand side by side.
    """
    groups = list(dict.fromkeys(mark.group for mark in marks))
    room = (RIGHT - LEFT) / len(groups)
    placed = []
    for i, group in enumerate(groups):
        members = [mark for mark in marks if mark.group == group]
        gap, last = min(spacing, room / (len(members) + 0.6)), len(members) - 1
        placed += [(mark, LEFT + room * (i + 0.5) + gap * (j - last / 2), j == last) for j, mark in enumerate(members)]
    return placed


def _group_labels(marks: Sequence[Mark]) -> list[str]:
    groups = list(dict.fromkeys(mark.group for mark in marks))
    room = (RIGHT - LEFT) / len(groups)
    return [_text(LEFT + room * (i + 0.5), BOTTOM + 18, group, "middle") for i, group in enumerate(groups)]


def _horizontal_grid(y: Scale, at: Sequence[float], name: Callable[[float], str]) -> list[str]:
    lines = [_line(LEFT, y(value), RIGHT, y(value), "zero" if value == 0 else "grid") for value in at]
    return lines + [_text(LEFT - 6, y(value) + 4, name(value), "end") for value in at]


def _vertical_labels(x: Scale, at: Sequence[float], name: Callable[[float], str]) -> list[str]:
    return [_text(x(value), BOTTOM + 18, name(value), "middle") for value in at]


def _number(value: float) -> str:
    text = f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:.3g}"
    return text.replace("-", "−")


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _svg(parts: Sequence[str], label: str, *, axis_name: str = "") -> Markup:
    height = HEIGHT + (AXIS_NAME_HEIGHT if axis_name else 0)
    named = [*parts, _text((LEFT + RIGHT) / 2, height - 6, axis_name, "middle")] if axis_name else parts
    return Markup(f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">{"".join(named)}</svg>')
