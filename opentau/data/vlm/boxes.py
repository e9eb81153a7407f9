"""Boxes as location tokens, the way PaliGemma writes them (arXiv:2407.07726, section 3.2)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from opentau.errors import DataError

NUM_BINS = 1024
"""Bins per axis; bin b holds the coordinates from b/1024 to (b + 1)/1024."""
SEPARATOR = " ; "

Box = tuple[float, float, float, float]
"""y_min, x_min, y_max, x_max in [0, 1] of the image."""

_PART = re.compile(r"((?:<loc\d{4}>){4}) (.+)")


def write_boxes(boxes: Sequence[tuple[Box, str]]) -> str:
    """Return '<locYYYY><locXXXX><locYYYY><locXXXX> name ; …' of (box, name); raises `DataError` for a box outside [0, 1]."""
    return SEPARATOR.join(f"{''.join(map(_token, box))} {name}" for box, name in boxes)


def read_boxes(text: str) -> list[tuple[Box, str]]:
    """Return the (box, name) of what `write_boxes` wrote, to half a bin; raises `DataError` for anything else."""
    boxes = []
    for part in text.split(SEPARATOR):
        match = _PART.fullmatch(part)
        bins = [int(digits) for digits in re.findall(r"\d{4}", match[1])] if match else []
        if match is None or max(bins) >= NUM_BINS:
            raise DataError(f"{part!r} is no box; write four tokens <loc0000> to <loc{NUM_BINS - 1}>, a space and a name")
        y_min, x_min, y_max, x_max = ((bin_ + 0.5) / NUM_BINS for bin_ in bins)
        boxes.append(((y_min, x_min, y_max, x_max), match[2]))
    return boxes


def _token(coordinate: float) -> str:
    if not 0.0 <= coordinate <= 1.0:
        raise DataError(f"a box has the coordinate {coordinate}; they lie in [0, 1] of the image")
    return f"<loc{min(int(coordinate * NUM_BINS), NUM_BINS - 1):04d}>"
