"""The curves of a study as one SVG file: a panel for every curve name, a line for every variant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import escape

from opentau.loop.report_charts import AXIS_NAME_HEIGHT, HEIGHT, WIDTH, Series, line_chart
from opentau.study.rows import Row

NUM_COLUMNS = 2
MARGIN, TITLE_HEIGHT, LEGEND_HEIGHT = 16, 24, 20
CHARACTER_WIDTH = 7.5
"""Of the legend's names, a little generous."""
PANEL_HEIGHT = TITLE_HEIGHT + HEIGHT + AXIS_NAME_HEIGHT
TOTAL_WIDTH = MARGIN + NUM_COLUMNS * (WIDTH + MARGIN)
STYLE = """
svg {
  --page: #ffffff; --ink: #1b2027; --soft: #59626e; --grid: #e6e9ed;
  --s0: #7d858f; --s1: #1f6fb8; --s2: #c2570c; --s3: #4a2a6e;
}
@media (prefers-color-scheme: dark) {
  svg {
    --page: #101318; --ink: #e3e7ec; --soft: #98a2ae; --grid: #252b34;
    --s0: #7f8893; --s1: #5b9fe0; --s2: #e8954a; --s3: #ead9f7;
  }
}
text { font: 11.5px system-ui, sans-serif; fill: var(--soft); }
.title { font-size: 13px; font-weight: 600; fill: var(--ink); }
.middle { text-anchor: middle; } .end { text-anchor: end; }
.page { fill: var(--page); } .grid { stroke: var(--grid); } .zero { stroke: var(--soft); }
.curve { fill: none; stroke: currentColor; stroke-width: 1.8; stroke-linejoin: round; }
.s0 { color: var(--s0); } .s1 { color: var(--s1); } .s2 { color: var(--s2); } .s3 { color: var(--s3); }
"""


def curves_svg(rows: Sequence[Row], *, variants: Sequence[str]) -> str:
    """Return the file's text, each line the mean over a variant's cells; empty if no row holds a curve."""
    names = sorted({name for row in rows for name in row.curves})
    panels = [(name, lines) for name in names if (lines := _lines(rows, name=name, variants=variants))]
    if not panels:
        return ""
    parts, legend_height = _legend(variants)
    for number, (name, lines) in enumerate(panels):
        row, column = divmod(number, NUM_COLUMNS)
        x, y = MARGIN + column * (WIDTH + MARGIN), legend_height + MARGIN + row * (PANEL_HEIGHT + MARGIN)
        chart = line_chart(lines, label=f"{name}, mean over cells", x_label="update")
        parts.append(f'<text class="title" x="{x}" y="{y + 13}">{escape(name)}</text>')
        parts.append(
            f'<svg x="{x}" y="{y + TITLE_HEIGHT}" width="{WIDTH}" height="{PANEL_HEIGHT - TITLE_HEIGHT}">{chart}</svg>'
        )
    num_panel_rows = -(-len(panels) // NUM_COLUMNS)
    height = legend_height + MARGIN + num_panel_rows * (PANEL_HEIGHT + MARGIN)
    size = f'viewBox="0 0 {TOTAL_WIDTH} {height}" width="{TOTAL_WIDTH}" height="{height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="Curves of every variant">'
    page = f'<rect class="page" width="{TOTAL_WIDTH}" height="{height}"/>'
    return "\n".join([head, f"<style>{STYLE}</style>", page, *parts, "</svg>"]) + "\n"


def mean_curve(curves: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[float, float]]:
    """Return the mean of several (update, value) curves at the updates that all of them have.

    Where only some have a value, as after one has stopped early, a mean would jump for no reason of the training's.
    """
    values = [dict(curve) for curve in curves]
    shared = sorted(set(values[0]).intersection(*values[1:]))
    return [(update, float(np.mean([curve[update] for curve in values]))) for update in shared]


def _lines(rows: Sequence[Row], *, name: str, variants: Sequence[str]) -> list[Series]:
    lines = []
    for number, variant in enumerate(variants):
        curves = [row.curves[name] for row in rows if row.variant == variant and row.curves.get(name)]
        if curves and (points := mean_curve(curves)):
            lines.append(Series(name=f"{variant}, mean of {len(curves)}", points=points, series=number))
    return lines


def _legend(variants: Sequence[str]) -> tuple[list[str], int]:
    """Return the legend's elements, wrapped to the width, and their height."""
    parts, x, y = [], float(MARGIN), MARGIN + 4
    for number, variant in enumerate(variants):
        width = 34 + CHARACTER_WIDTH * len(variant) + MARGIN
        if x > MARGIN and x + width > TOTAL_WIDTH:
            x, y = float(MARGIN), y + LEGEND_HEIGHT
        dash = ' stroke-dasharray="5 3"' if number > 3 else ""
        parts.append(f'<polyline class="s{number % 4} curve"{dash} points="{x:.1f},{y} {x + 26:.1f},{y}"/>')
        parts.append(f'<text x="{x + 32:.1f}" y="{y + 4}">{escape(variant)}</text>')
        x += width
    return parts, y + LEGEND_HEIGHT - MARGIN
