"""What a person would call LIBERO's objects."""

from __future__ import annotations

import re
from collections.abc import Mapping

SPOKEN: Mapping[str, str] = {
    "akita black bowl": "black bowl",
    "glazed rim porcelain ramekin": "ramekin",
    "flat stove": "stove",
    "chefmate 8 frypan": "frying pan",
    "new salad dressing": "salad dressing",
    "white yellow mug": "yellow and white mug",
    "porcelain mug": "white mug",
    "red coffee mug": "red mug",
    "black book": "book",
    "desk caddy": "caddy",
    "wooden two layer shelf": "cabinet shelf",
    "wooden tray": "tray",
}
"""Where LIBERO's name, less its number, is not what its instructions say."""
GROCERIES = frozenset(
    {
        "alphabet soup", "bbq sauce", "butter", "chocolate pudding", "cookies", "cream cheese", "ketchup",
        "macaroni and cheese", "milk", "orange juice", "popcorn", "salad dressing", "tomato sauce",
    }
)  # fmt: skip


def spoken_name(key: str) -> str:
    """Return the name in words: 'alphabet soup' of 'alphabet_soup_1'."""
    words = re.sub(r"_\d+$", "", key).replace("_", " ")
    return SPOKEN.get(words, words)


def group_of(key: str) -> str:
    """Return 'groceries' for one of these, else nothing."""
    return "groceries" if spoken_name(key) in GROCERIES else ""
