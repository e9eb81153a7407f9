"""The report's filmstrips: a few frames of an episode as small JPEG pictures inside the page."""

from __future__ import annotations

import base64
import io
from itertools import pairwise

import numpy as np
from PIL import Image

NUM_FRAMES = 8
FRAME_PIXELS = 112
JPEG_QUALITY = 82


def frame_indices(length: int) -> list[int]:
    """Return at most `NUM_FRAMES` ticks of an episode, evenly spread, first and last included."""
    return [int(i) for i in np.unique(np.linspace(0, length - 1, NUM_FRAMES).round())]


def picture(pixels: np.ndarray) -> str:
    """Return uint8 [Y, X, 3] as a data URI."""
    image = Image.fromarray(pixels)
    scale = FRAME_PIXELS / image.height
    resized = image.resize((round(image.width * scale), FRAME_PIXELS), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    resized.save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def runs_of(column: np.ndarray) -> list[tuple[int, float]]:
    """Return the stretches of equal values of a column [T] as (value, share of T)."""
    starts = [0, *(np.flatnonzero(np.diff(column)) + 1).tolist(), len(column)]
    return [(int(column[a]), (b - a) / len(column)) for a, b in pairwise(starts)]
