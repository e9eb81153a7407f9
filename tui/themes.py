"""The colours of the screens, dark and light."""

from __future__ import annotations

from collections.abc import Mapping

from textual.theme import Theme

DARK, LIGHT = "opentau", "opentau-light"
LIGHT_BACKGROUNDS = ("7", "15")

THEMES = (
    Theme(
        name=DARK,
        primary="#6ea8e0",
        accent="#6ea8e0",
        success="#5fbf8f",
        warning="#e0a94a",
        error="#f0786e",
        foreground="#dfe3e8",
        background="#12151a",
        surface="#1a1e25",
        panel="#1f242c",
    ),
    Theme(
        name=LIGHT,
        primary="#1f5f9e",
        accent="#1f5f9e",
        success="#1c7a4a",
        warning="#8a5a00",
        error="#b3261e",
        foreground="#1b1f24",
        background="#fafaf7",
        surface="#f0f0ec",
        panel="#e6e6e0",
        dark=False,
    ),
)


def theme_of(environ: Mapping[str, str]) -> str:
    """Return the theme that fits the terminal, where it says its background (COLORFGBG); the dark one otherwise."""
    return LIGHT if environ.get("COLORFGBG", "").split(";")[-1] in LIGHT_BACKGROUNDS else DARK
