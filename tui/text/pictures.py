"""Pictures in cells of a terminal: two pixels a cell in colour, or one character a cell where there is no Unicode."""

from __future__ import annotations

import numpy as np

from tui.text.lines import Line

RAMP = " .:-=+*#%@"
"""From dark to bright, for terminals without Unicode; on a light background it is a negative, which still shows shapes."""
CELL_ASPECT = 0.5
"""Width of a cell over its height."""


def picture_size(pixels: np.ndarray, *, columns: int, rows: int) -> tuple[int, int]:
    """Return how many columns and rows of cells a picture uint8 [Y, X, 3] fills within a box, in its own shape."""
    height, width = pixels.shape[:2]
    scale = min(columns / width, rows / (height * CELL_ASPECT))
    return max(1, round(width * scale)), max(1, round(height * CELL_ASPECT * scale))


def picture_lines(pixels: np.ndarray, *, columns: int, rows: int, is_ascii: bool = False) -> list[Line]:
    """Return a picture uint8 [Y, X, 3] as at most `rows` lines of at most `columns` cells."""
    width, height = picture_size(pixels, columns=columns, rows=rows)
    if is_ascii:
        grey = shrunk(pixels, height=height, width=width) @ np.array([0.299, 0.587, 0.114])
        return [[("".join(RAMP[int(level) * len(RAMP) // 256] for level in row), "")] for row in grey]
    small = shrunk(pixels, height=2 * height, width=width)
    return [
        [("▀", f"{_colour(upper)} on {_colour(lower)}") for upper, lower in zip(top, bottom, strict=True)]
        for top, bottom in zip(small[::2], small[1::2], strict=True)
    ]


def shrunk(pixels: np.ndarray, *, height: int, width: int) -> np.ndarray:
    """Return uint8 [height, width, 3]: every new pixel is the mean of those that it covers, or the nearest one."""
    y_edges = np.linspace(0, pixels.shape[0], height + 1).round().astype(int)
    x_edges = np.linspace(0, pixels.shape[1], width + 1).round().astype(int)
    if height > pixels.shape[0] or width > pixels.shape[1]:
        return pixels[np.minimum(y_edges[:-1], pixels.shape[0] - 1)][:, np.minimum(x_edges[:-1], pixels.shape[1] - 1)]
    sums = np.add.reduceat(np.add.reduceat(pixels.astype(np.uint32), y_edges[:-1], axis=0), x_edges[:-1], axis=1)
    counts = np.diff(y_edges)[:, None, None] * np.diff(x_edges)[None, :, None]
    return (sums // counts).astype(np.uint8)


def beside(blocks: list[list[Line]], *, gap: int = 1) -> list[Line]:
    """Return blocks of lines side by side; every line of a block is as wide as its first."""
    height = max((len(block) for block in blocks), default=0)
    lines: list[Line] = []
    for row in range(height):
        line: Line = []
        for block in blocks:
            width = sum(len(text) for text, _ in block[0])
            line += block[row] if row < len(block) else [(" " * width, "")]
            line.append((" " * gap, ""))
        lines.append(line)
    return lines


def _colour(pixel: np.ndarray) -> str:
    r, g, b = (int(channel) for channel in pixel)
    return f"#{r:02x}{g:02x}{b:02x}"
