"""Small pictures made of lines and text: a strip of frames over time, a curve in a box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Shapes: T frames, Y and X image rows and columns.

BACKGROUND, INK, FAINT, LINE = "#ffffff", "#1c2126", "#7b848c", "#2563a8"
GRID, SHADE = "#e3e7ea", "#fbe3c4"
TEXT_PIXELS = 13
SHARP = 2
"""Curves are drawn this many times larger and made smaller, which smooths them."""
PANEL_PADDING = 6
TITLE_PIXELS = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One dimension over time."""

    title: str
    values_T: np.ndarray
    low: float
    """Bottom of the box; curves that are compared share it."""
    high: float
    shaded_T: np.ndarray
    """Bool [T]: frames with a coloured background."""


def text_picture(text: str, *, width: int, size: int = TEXT_PIXELS, colour: str = INK) -> Image.Image:
    """Return one line of text, cut with an ellipsis where it is too long."""
    font = ImageFont.load_default(size)
    while text and font.getlength(text) > width:
        text = text.removesuffix("…")[:-1] + "…"
    picture = Image.new("RGB", (width, round(size * 1.5)), BACKGROUND)
    ImageDraw.Draw(picture).text((0, size * 0.15), text, fill=colour, font=font)
    return picture


def frame_strip(frames: Sequence[np.ndarray], labels: Sequence[str], *, width: int, max_height: int) -> Image.Image:
    """Return frames uint8 [Y, X, 3] side by side, as wide as given at most, each with a label under it."""
    height, columns = frames[0].shape[:2]
    gap = 4
    scale = min((width - gap * (len(frames) - 1)) / (columns * len(frames)), max_height / height)
    size = (max(1, int(columns * scale)), max(1, int(height * scale)))
    strip = Image.new("RGB", (width, size[1] + round(TEXT_PIXELS * 1.5)), BACKGROUND)
    # Enlarged pixels stay square; frames made smaller are averaged.
    filter_ = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    for number, (frame, label) in enumerate(zip(frames, labels, strict=True)):
        left = number * (size[0] + gap)
        strip.paste(Image.fromarray(frame).resize(size, filter_), (left, 0))
        strip.paste(text_picture(label, width=size[0], size=11, colour=FAINT), (left, size[1] + 1))
    return strip


def curve_picture(curve: Curve, *, width: int, height: int) -> Image.Image:
    """Return a curve in a box with its title and range."""
    picture = Image.new("RGB", (width * SHARP, height * SHARP), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    left, right = 0, (width - PANEL_PADDING) * SHARP - 1
    top, bottom = TITLE_PIXELS * SHARP, (height - PANEL_PADDING) * SHARP - 1
    draw.rectangle((left, top, right, bottom), outline=GRID, width=SHARP)
    length = len(curve.values_T)
    x_T = np.linspace(left + SHARP, right - SHARP, max(2, length))[:length]
    step = (right - left) / max(1, length)
    for frame in np.flatnonzero(curve.shaded_T):
        draw.rectangle((x_T[frame] - step / 2, top + SHARP, x_T[frame] + step / 2, bottom - SHARP), fill=SHADE)
    spread = curve.high - curve.low or 1.0
    inside = bottom - top - 4 * SHARP
    y_T = bottom - 2 * SHARP - (np.nan_to_num(curve.values_T) - curve.low) / spread * inside
    draw.line([(float(x), float(y)) for x, y in zip(x_T, y_T, strict=True)], fill=LINE, width=SHARP, joint="curve")
    small = picture.resize((width, height), Image.Resampling.LANCZOS)
    span = f"{curve.low:.4g} … {curve.high:.4g}"
    room = ImageFont.load_default(10).getlength(span) + 2
    small.paste(text_picture(curve.title, width=int(width - room - 14), size=11), (0, 0))
    small.paste(text_picture(span, width=int(room), size=10, colour=FAINT), (int(width - PANEL_PADDING - room), 1))
    return small


def stack(pictures: Sequence[Image.Image], *, margin: int, gap: int) -> Image.Image:
    """Return pictures one below the other."""
    width = max(picture.width for picture in pictures)
    height = sum(picture.height for picture in pictures) + gap * (len(pictures) - 1)
    page = Image.new("RGB", (width + 2 * margin, height + 2 * margin), BACKGROUND)
    top = margin
    for picture in pictures:
        page.paste(picture, (margin, top))
        top += picture.height + gap
    return page


def grid(pictures: Sequence[Image.Image], *, columns: int) -> Image.Image:
    """Return pictures of one size in rows."""
    width, height = pictures[0].size
    rows = -(-len(pictures) // columns)
    page = Image.new("RGB", (columns * width, rows * height), BACKGROUND)
    for number, picture in enumerate(pictures):
        page.paste(picture, (number % columns * width, number // columns * height))
    return page
