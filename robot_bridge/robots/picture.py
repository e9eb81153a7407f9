"""Whether a camera shows what a dataset's camera of that name showed: brightness, colours, structure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

MAX_BRIGHTNESS_DIFFERENCE = 40.0
"""Mean grey level, of 255."""
MAX_COLOUR_DISTANCE = 0.35
"""Half the summed difference of the colour histograms, 0 to 1."""
MIN_STRUCTURE = 0.5
"""Correlation of the coarse pictures, -1 to 1."""
_BINS, _COARSE = 16, 24


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureComparison:
    """How a picture differs from the nearest of some reference pictures."""

    brightness_difference: float
    """Mean grey level of the picture minus the reference's."""
    colour_distance: float
    structure: float
    problems: tuple[str, ...]
    """What is beyond its threshold, each with the fix; empty for a match."""


def compare_pictures(picture: np.ndarray, references: Sequence[np.ndarray]) -> PictureComparison:
    """Compare uint8 [Y, X, 3] with the references of any size; the reference most like it in structure counts."""
    coarse = _coarse(picture)
    structures = [_correlation(coarse, _coarse(reference)) for reference in references]
    best = int(np.argmax(structures))
    brightness = float(picture.mean() - references[best].mean())
    distance = float(np.abs(_histogram(picture) - _histogram(references[best])).sum() / 2)
    problems = []
    if abs(brightness) > MAX_BRIGHTNESS_DIFFERENCE:
        problems.append(
            f"it is {abs(brightness):.0f} grey levels {'brighter' if brightness > 0 else 'darker'} than the dataset (limit "
            f"{MAX_BRIGHTNESS_DIFFERENCE:.0f}): change the light or exposure_ms"
        )
    if distance > MAX_COLOUR_DISTANCE:
        problems.append(
            f"its colours differ by {distance:.2f} (limit {MAX_COLOUR_DISTANCE}): see the white balance, and whether this is "
            "the right camera"
        )
    if structures[best] < MIN_STRUCTURE:
        problems.append(
            f"its picture resembles the dataset's by {structures[best]:.2f} (at least {MIN_STRUCTURE}): move the camera to "
            "where it was, or exchange the names of two cameras"
        )
    return PictureComparison(
        brightness_difference=brightness,
        colour_distance=distance,
        structure=structures[best],
        problems=tuple(problems),
    )


def write_side_by_side(path: Path, picture: np.ndarray, reference: np.ndarray) -> None:
    """Write the picture and the reference beside each other, of the picture's height, as PNG."""
    height = picture.shape[0]
    width = round(reference.shape[1] * height / reference.shape[0])
    resized = np.asarray(Image.fromarray(reference).resize((width, height)))
    Image.fromarray(np.concatenate([picture, resized], axis=1)).save(path)


def _coarse(picture: np.ndarray) -> np.ndarray:
    """Return grey values of a small picture, float64 [24, 24]."""
    return np.asarray(Image.fromarray(picture).convert("L").resize((_COARSE, _COARSE), Image.Resampling.BOX), np.float64)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum() / scale) if scale > 1e-9 else 0.0


def _histogram(picture: np.ndarray) -> np.ndarray:
    """Return the shares of every colour's levels, float64 [3 * 16] with the sum 1."""
    counts = [np.bincount(picture[..., channel].ravel() // (256 // _BINS), minlength=_BINS) for channel in range(3)]
    return np.concatenate(counts) / (3 * picture.shape[0] * picture.shape[1])
