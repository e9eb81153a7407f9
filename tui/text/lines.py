"""Lines of styled text and what they are drawn with: bars, sparklines, columns, tables; nothing of runs."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence

from opentau.runstate import RunSummary, duration_text

Span = tuple[str, str]
"""A text and its style: one of '', 'strong', 'dim', 'accent', 'good', 'warning', 'bad'."""
Line = list[Span]
Draw = Callable[[RunSummary, float, int], list[Line]]
"""Lines of a summary at a moment, seconds since the epoch, for a width in columns."""

SPARKS = "▁▂▃▄▅▆▇█"
SHADES = " ░▒▓█"


def plain(line: Line) -> str:
    """Return a line without its styles."""
    return "".join(text for text, _ in line)


def spread(left: Line, right: Line, width: int) -> Line:
    """Return both parts at the two ends of a line; where they do not fit, the left one gives way first."""
    room = width - len(plain(right)) - 1
    kept = cut(left, room) if room > 0 else []
    return cut([*kept, (" " * (width - len(plain(kept)) - len(plain(right))), ""), *right], width)


def cut(line: Line, width: int) -> Line:
    """Return the line in at most `width` columns, with an ellipsis where something is missing."""
    if len(plain(line)) <= width:
        return line
    kept: Line = []
    room = max(0, width - 1)
    for text, style in line:
        kept.append((text[:room], style))
        room -= len(text[:room])
    return [*kept, ("…", "dim")]


def clock(seconds: float) -> str:
    """Return a duration as '2:05' or '1:02:05'."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def about_text(seconds: float) -> str:
    """Return a duration that is only estimated, without seconds that mean nothing."""
    return duration_text(seconds if seconds < 60 else 60 * round(seconds / 60)).removesuffix(" 00 s")


def bar(share: float, width: int) -> Line:
    """Return a progress bar."""
    full = round(min(1.0, max(0.0, share)) * width)
    return [("━" * full, "accent"), ("╌" * (width - full), "dim")]


def sparkline(values: Sequence[float]) -> str:
    """Return one block character a value, from the smallest to the largest; values that are not finite are spaces."""
    finite = [value for value in values if abs(value) < float("inf")]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    scale = (len(SPARKS) - 1) / (high - low) if high > low else 0.0
    return "".join(SPARKS[round((value - low) * scale)] if abs(value) < float("inf") else " " for value in values)


def interval_bar(rate: float, interval: tuple[float, float], width: int) -> Line:
    """Return '····├──●───┤····': a rate in [0, 1] and its interval on an axis from 0 to 1."""
    low, middle, high = (round(min(1.0, max(0.0, x)) * (width - 1)) for x in (interval[0], rate, interval[1]))
    cells = ["·"] * width
    cells[low : high + 1] = "─" * (high + 1 - low)
    cells[low], cells[high], cells[middle] = "├", "┤", "●"
    whisker = "".join(cells)
    return [(whisker[:low], "dim"), (whisker[low : high + 1], "accent"), (whisker[high + 1 :], "dim")]


def difference_bar(difference: float, interval: tuple[float, float], width: int, *, reach: float) -> Line:
    """Return the same for a difference in [-reach, reach], with a mark at zero."""
    bar_ends = ((interval[0] + reach) / (2 * reach), (interval[1] + reach) / (2 * reach))
    line = interval_bar((difference + reach) / (2 * reach), bar_ends, width)
    middle, at = (width - 1) // 2, 0
    marked: Line = []
    for text, style in line:
        if at <= middle < at + len(text) and text[middle - at] in "·─":
            text = f"{text[: middle - at]}{'│' if text[middle - at] == '·' else '┼'}{text[middle - at + 1 :]}"
        marked.append((text, style))
        at += len(text)
    return marked


def columns(values: Sequence[float], height: int, *, top: float | None = None) -> list[str]:
    """Return `height` rows of block characters, one column a value from 0 to `top` (the largest); the highest row first."""
    peak = max([value for value in values if math.isfinite(value)], default=0.0) if top is None else top
    eighths = [round(8 * height * value / peak) if peak > 0 and math.isfinite(value) else 0 for value in values]
    rows = []
    for row in reversed(range(height)):
        filled = [min(8, max(0, count - 8 * row)) for count in eighths]
        rows.append("".join(SPARKS[count - 1] if count else " " for count in filled))
    return rows


def shade(share: float) -> str:
    """Return a character as dark as a share in [0, 1] is large."""
    return SHADES[min(len(SHADES) - 1, round(share * (len(SHADES) - 1)))]


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def points(difference: float) -> str:
    """Return a difference of two shares in percentage points, with its sign."""
    return f"{100 * difference:+.0f}".replace("-", "−") if round(100 * difference) else "0"


def table(head: Sequence[str], rows: Sequence[Sequence[Span]], width: int, *, left: int = 1) -> list[Line]:
    """Return a head and rows in columns as wide as their content; the first `left` columns are flush left, the others right."""
    sizes = [max(len(title), *(len(row[i][0]) for row in rows)) if rows else len(title) for i, title in enumerate(head)]

    def cell(text: str, i: int) -> str:
        return text.ljust(sizes[i]) if i < left else text.rjust(sizes[i])

    lines: list[Line] = [[("  ".join(cell(title, i) for i, title in enumerate(head)).rstrip(), "dim")]]
    for row in rows:
        line: Line = []
        for i, (text, style) in enumerate(row):
            line += [("  " if i else "", ""), (cell(text, i), style)]
        lines.append(line)
    return [cut(line, width) for line in lines]


def wrapped(text: str, width: int, style: str = "") -> list[Line]:
    """Return a text in lines of at most `width` columns."""
    return [[(row, style)] for row in textwrap.wrap(text, max(10, width))]
