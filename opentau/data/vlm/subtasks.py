"""What an expert is doing, in a sentence: the subtask labels of its episodes."""

from __future__ import annotations

from collections.abc import Mapping

from opentau.errors import DataError, near_matches

SENTENCES: Mapping[str, str] = {
    "settle": "open the gripper",
    "retreat": "reach for the {thing}",
    "reach": "reach for the {thing}",
    "descend": "grasp the {thing}",
    "grasp": "grasp the {thing}",
    "lift": "lift the {thing}",
    "carry": "move the {thing} to the {place}",
    "lower": "place the {thing} {relation} the {place}",
    "release": "release the {thing}",
    "depart": "move away from the {thing}",
}
"""Of `Expert.phase`; phases that look alike in a picture share a sentence."""


def subtask_sentence(phase: str, *, thing: str, place: str, relation: str) -> str:
    """Return the subtask in words; `thing` is what is moved, 'in' or 'on' (`relation`) the `place`, as a person says them.

    Raises `DataError` for a phase that has no sentence.
    """
    if phase not in SENTENCES:
        raise DataError(
            f"the expert's phase {phase!r} has no sentence; add one to SENTENCES of {__name__}.{near_matches(phase, SENTENCES)}"
        )
    return SENTENCES[phase].format(thing=thing, place=place, relation=relation)
