"""The report's palette: every pair of series stays apart for every kind of colour vision, on both backgrounds."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from opentau.loop.report import REPORT_FILE, TEMPLATES

# Full dichromacy in linear RGB (Machado, Oliveira and Fernandes 2009, severity 1.0).
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array([[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]]),
    "deuteranopia": np.array([[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]]),
    "tritanopia": np.array([[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]]),
}
# Oklab (Ottosson 2020).
LMS = np.array([[0.41222, 0.53633, 0.05145], [0.21190, 0.68070, 0.10740], [0.08830, 0.28172, 0.62998]])
LAB = np.array([[0.21045, 0.79362, -0.00407], [1.97800, -2.42859, 0.45059], [0.02590, 0.78277, -0.80868]])
MIN_DISTANCE = 0.09
"""In Oklab, where black and white are 1 apart."""
MIN_CONTRAST = 3.0
"""Of graphics against their background (WCAG 2.1, 1.4.11)."""


def themes() -> list[dict[str, str]]:
    blocks = re.findall(r":root \{(.*?)\}", (TEMPLATES / REPORT_FILE).read_text(), re.DOTALL)
    return [dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in blocks]


def linear(colour: str) -> np.ndarray:
    srgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def oklab(rgb: np.ndarray) -> np.ndarray:
    return LAB @ np.cbrt(LMS @ rgb)


def contrast(first: str, second: str) -> float:
    dark, bright = sorted(float(linear(colour) @ [0.2126, 0.7152, 0.0722]) + 0.05 for colour in (first, second))
    return bright / dark


@pytest.mark.parametrize("theme", themes(), ids=["light", "dark"])
def test_series_stay_apart_for_every_vision(theme: dict[str, str]) -> None:
    for vision, matrix in VISION.items():
        seen = [oklab(np.clip(matrix @ linear(theme[f"s{i}"]), 0, 1)) for i in range(4)]
        nearest = min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2))
        assert nearest >= MIN_DISTANCE, vision


@pytest.mark.parametrize("theme", themes(), ids=["light", "dark"])
def test_everything_stands_out_from_its_background(theme: dict[str, str]) -> None:
    assert min(contrast(theme[f"s{i}"], theme["card"]) for i in range(4)) >= MIN_CONTRAST
    for text in ("ink", "soft", "good", "poor"):
        assert min(contrast(theme[text], theme[ground]) for ground in ("card", "page")) >= 4.5
