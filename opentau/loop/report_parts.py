"""What a section of the report is made of: figures, tables, and a plain line for what has not been measured."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart with its words."""

    title: str
    chart: Markup
    legend: tuple[tuple[int, str], ...] = ()
    """Colour and name."""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The numbers behind charts."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One part of the page; without figures and table it is the plain line `missing`."""

    id: str
    title: str
    lead: str
    """How to read it, in a sentence or two."""
    missing: str
    figures: tuple[Figure, ...] = ()
    table: Table | None = None
