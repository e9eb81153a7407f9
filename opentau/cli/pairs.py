"""Arguments that name one thing after another, such as cameras."""

from __future__ import annotations

from opentau.errors import OptionError


def pair(text: str, *, flag: str, form: str) -> tuple[str, str]:
    """Return the two names of 'one=other'; anything else raises `OptionError`, which shows the form."""
    one, separator, other = text.partition("=")
    if not (separator and one and other):
        raise OptionError(f"{flag} {text!r} is no pair of names; write it as {form}")
    return one, other
