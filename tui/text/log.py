"""The run's story, line by line, filtered by level and searched."""

from __future__ import annotations

import textwrap
import time

from opentau.runstate import LogLine, RunSummary
from tui.text.lines import Line

LOG_ROWS = 200
LEVELS = ("info", "warning", "error")
LEVEL_STYLES = {"info": "", "warning": "warning", "error": "bad"}
LEVEL_MARKS = {"info": " ", "warning": "!", "error": "✗"}


def chosen_lines(summary: RunSummary, *, level: str = "info", search: str = "") -> list[LogLine]:
    """Return the log lines of at least a level that contain a text, whatever its case; oldest first."""
    levels, wanted = LEVELS[LEVELS.index(level) :], search.casefold()
    return [entry for entry in summary.log if entry.level in levels and wanted in f"{entry.source} {entry.text}".casefold()]


def log_rows(summary: RunSummary, now: float, width: int, *, level: str = "info", search: str = "") -> list[Line]:
    """Return the newest chosen log lines, wrapped, with local clock times."""
    lines: list[Line] = []
    for entry in chosen_lines(summary, level=level, search=search)[-LOG_ROWS:]:
        style = LEVEL_STYLES.get(entry.level, "")
        stamp = time.strftime("%H:%M:%S", time.localtime(entry.t)) + LEVEL_MARKS.get(entry.level, " ")
        rows = textwrap.wrap(entry.text, max(20, width - len(stamp))) or [""]
        lines.append([(stamp, "dim"), *_marked(rows[0], search, style)])
        lines += [[(" " * len(stamp), ""), *_marked(row, search, style)] for row in rows[1:]]
    if lines:
        return lines
    return [[("nothing yet" if not summary.log else f"none of {len(summary.log)} lines is chosen", "dim")]]


def _marked(text: str, search: str, style: str) -> Line:
    """Return a text with the first place that was searched for in bold."""
    at = text.casefold().find(search.casefold()) if search else -1
    if at < 0:
        return [(text, style)]
    end = at + len(search)
    return [(text[:at], style), (text[at:end], "strong"), (text[end:], style)]
