"""What an expert is doing, in a sentence: the subtask labels of its episodes."""

from __future__ import annotations

from collections.abc import Mapping

from opentau.errors import DataError, near_matches
from opentau.protocols import NarratingExpert

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


QUESTION = "task: {}. which subtask comes next?"
"""How a policy is asked for the subtask, in training and when it acts (π0.5, arXiv:2504.16054, section IV)."""


def with_subtask(prompt: str, subtask: str) -> str:
    """Return the prompt of a policy that acts on a subtask of the task."""
    return f"{prompt}. {subtask}" if subtask else prompt


def subtask_sentence(phase: str, *, thing: str, place: str, relation: str) -> str:
    """Return the subtask in words; `thing` is what is moved, 'in' or 'on' (`relation`) the `place`, as a person says them.

    Raises `DataError` for a phase that has no sentence.
    """
    if phase not in SENTENCES:
        raise DataError(
            f"the expert's phase {phase!r} has no sentence; add one to SENTENCES of {__name__}.{near_matches(phase, SENTENCES)}"
        )
    return SENTENCES[phase].format(thing=thing, place=place, relation=relation)


def narrated(expert: object, object_names: Mapping[str, str] | None) -> str:
    """Return what an expert is doing, '' for one that does not say what it acts on or an environment without names."""
    if object_names is None or not isinstance(expert, NarratingExpert):
        return ""
    return subtask_sentence(expert.phase, **goal_words(expert, object_names))


def goal_words(expert: NarratingExpert, object_names: Mapping[str, str]) -> dict[str, str]:
    """Return what an expert moves and where to, as `subtask_sentence` takes it."""
    place = expert.destination
    return {
        "thing": object_names[expert.subject],
        "place": object_names.get(place, place.replace("_", " ")),
        "relation": expert.relation,
    }
