"""Terminals without Unicode: whether this is one, and the same text in ASCII, a character for a character."""

from __future__ import annotations

from collections.abc import Mapping

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

ASCII = str.maketrans(
    {
        **dict(zip("▁▂▃▄▅▆▇█", "_..:-=+#", strict=True)),
        **dict(zip("░▒▓", ".:+", strict=True)),
        **dict.fromkeys("─━┄┈╌═▔", "-"),
        **dict.fromkeys("│┃┊├┤▎▏▕▌▐", "|"),
        **dict.fromkeys("┼┬┴╭╮╰╯┌┐└┘", "+"),
        **{"●": "*", "○": "o", "✓": "+", "✗": "x", "‖": "=", "■": "#", "·": ".", "…": "~", "−": "-", "→": ">", "←": "<"},
        **{"▲": "^", "▸": ">", "▀": "=", "▄": "_", "—": "-", "–": "-", "“": '"', "”": '"', "’": "'", "\u00a0": " "},
        **{
            "π": "p",
            "∆": "d",
            "Δ": "d",
            "≤": "<",
            "≥": ">",
            "×": "x",
            "±": "~",
            "°": "o",
            "µ": "u",
            "⏵": ">",
            "↑": "^",
            "↓": "v",
        },
    }
)
PLAIN_TERMINALS = ("dumb", "vt52", "vt100", "vt102", "vt220")


def is_plain_terminal(environ: Mapping[str, str]) -> bool:
    """Return whether a terminal shows ASCII only: an old TERM, or a locale that is named and is not UTF-8."""
    if environ.get("TERM", "") in PLAIN_TERMINALS:
        return True
    name = next((environ[variable] for variable in ("LC_ALL", "LC_CTYPE", "LANG") if environ.get(variable)), "")
    return bool(name) and "utf" not in name.lower()


def in_ascii(text: str) -> str:
    """Return a text of the same length in ASCII; what has no likeness becomes '?'."""
    return text if text.isascii() else text.translate(ASCII).encode("ascii", "replace").decode()


class AsciiFilter(LineFilter):
    """Everything that is drawn, frames and scroll bars included, in ASCII."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [segment if segment.text.isascii() else segment._replace(text=in_ascii(segment.text)) for segment in segments]
