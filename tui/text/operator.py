"""What a person at the robots is asked, and the order of policies in a blind comparison, which never names them."""

from __future__ import annotations

from opentau.runstate import RunSummary
from tui.text.lines import Line


def prompt_rows(summary: RunSummary, now: float, width: int) -> list[Line]:
    """Return what is to be done now."""
    return [[("nobody is asked for anything", "dim")]]


def order_rows(summary: RunSummary, now: float, width: int) -> list[Line]:
    """Return the episodes of a blind comparison so far."""
    return [[("no comparison yet", "dim")]]
