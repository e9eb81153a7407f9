"""Episodes chosen in words: '0,3,8-12'."""

from __future__ import annotations

from opentau.errors import OptionError


def parse_episodes(text: str, *, num_episodes: int) -> list[int]:
    """Return the episodes of '0,3,8-12' in that order, each once; both ends of a range count.

    What is no such list, or an episode that the dataset does not have, raises `OptionError`.
    """
    chosen: list[int] = []
    for part in filter(None, text.replace(" ", "").split(",")):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise OptionError(f"{part!r} is no episode; write episodes as 0,3,8-12")
        chosen.extend(range(int(first), int(last if dash else first) + 1))
    if not chosen:
        raise OptionError(f"{text!r} chooses no episode; write episodes as 0,3,8-12")
    unknown = [index for index in chosen if index >= num_episodes]
    if unknown:
        raise OptionError(f"there is no episode {unknown[0]}; the dataset has the episodes 0 to {num_episodes - 1}")
    return list(dict.fromkeys(chosen))
