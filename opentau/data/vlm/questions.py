"""Questions and answers about one frame: pure functions of what is true of it and a generator for wordings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from opentau.data.vlm.boxes import write_boxes
from opentau.data.vlm.facts import SceneFrame
from opentau.subtasks import QUESTION

YES, NO = "yes", "no"
NOTHING, SOMETHING = "nothing", "something"

DETECT = ("detect the {}", "find the {}", "where is the {}?")
SIDE_OF = ("is the {} to the {} of the {}?", "does the {} lie to the {} of the {}?")
FURTHER = ("which is further {}, the {} or the {}?", "what is further to the {}, the {} or the {}?")
IN_PLACE = ("is the {} {} the {}?", "does the {} lie {} the {}?")
HOLDS = ("is the gripper holding the {}?", "does the robot hold the {}?")
HELD = ("what is the gripper holding?", "what does the robot hold?")
COUNT = ("how many {} can be seen?", "how many {} are there in the image?")
COUNT_SIDE = ("how many {} are to the {} of the {}?",)
NEXT = (QUESTION, "task: {}. what should the robot do next?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question with its answer."""

    kind: str
    text: str
    answer: str
    cameras: tuple[str, ...]
    """Whose pictures it is asked about."""
    topic: str
    """What it is about whatever the answer: data is spread over topics, and yes and no balanced within each."""
    episode: int = -1
    tick: int = -1
    number: int = -1
    """Among the questions of its frame."""

    @property
    def is_yes_no(self) -> bool:
        return self.answer in (YES, NO)


def questions_of(frame: SceneFrame, rng: np.random.Generator) -> list[Question]:
    """Return every question that the frame answers beyond doubt; the generator chooses wordings and orders."""
    made = [question for make in KINDS.values() for question in make(frame, rng)]
    return [
        dataclasses.replace(question, episode=frame.episode, tick=frame.tick, number=number)
        for number, question in enumerate(made)
    ]


def box_questions(frame: SceneFrame, rng: np.random.Generator) -> Iterator[Question]:
    """Ask where each name is (all objects of that name), and once per camera where two names are."""
    for camera in frame.cameras:
        unclear = {frame.name(key) for key in frame.unclear(camera)}
        seen = [key for key in frame.seen(camera) if frame.name(key) not in unclear]
        names = sorted({frame.name(key) for key in seen})
        asked = [[name] for name in names]
        if len(names) > 1:
            asked.append([names[index] for index in rng.choice(len(names), 2, replace=False)])
        for wanted in asked:
            boxes = [(frame.box(camera, key), name) for name in wanted for key in seen if frame.name(key) == name]
            text = _wording(DETECT[:2] if len(boxes) > 1 else DETECT, rng).format(" and the ".join(wanted))
            topic = wanted[0] if len(wanted) == 1 else "two names"
            yield Question(kind="box", text=text, answer=write_boxes(boxes), cameras=(camera,), topic=topic)


def relation_questions(frame: SceneFrame, rng: np.random.Generator) -> Iterator[Question]:
    """Ask for pairs of objects which is further left or right in a camera's picture, and yes and no about the same."""
    for camera in frame.cameras:
        keys = [key for key in frame.seen(camera) if key in frame.unique()]
        for index, one in enumerate(keys):
            for other in keys[index + 1 :]:
                is_left = frame.is_left(camera, one, other)
                if is_left is not None:
                    left, right = (one, other) if is_left else (other, one)
                    yield from _about_pair(frame.name(left), frame.name(right), camera, rng)


def _about_pair(left: str, right: str, camera: str, rng: np.random.Generator) -> Iterator[Question]:
    pair = " and ".join(sorted((left, right)))
    side = _wording(("left", "right"), rng)
    first, second = (left, right) if rng.random() < 0.5 else (right, left)
    yield Question(
        kind="relation",
        text=_wording(FURTHER, rng).format(side, first, second),
        answer=left if side == "left" else right,
        cameras=(camera,),
        topic=pair,
    )
    side = _wording(("left", "right"), rng)
    for one, other in ((left, right), (right, left)):
        answer = YES if (one == left) == (side == "left") else NO
        text = _wording(SIDE_OF, rng).format(one, side, other)
        yield Question(kind="relation", text=text, answer=answer, cameras=(camera,), topic=f"{one} {side} of {other}")


def containment_questions(frame: SceneFrame, rng: np.random.Generator) -> Iterator[Question]:
    """Ask of objects that nobody touches whether they lie in or on a place."""
    truth, unique = frame.truth, frame.unique()
    for relation, place in truth["places"]:
        for key in unique:
            is_asked = truth["objects"][key]["is_movable"] and key != place and key not in truth["touched"]
            if is_asked and place in unique and frame.is_seen_anywhere(key) and frame.is_seen_anywhere(place):
                words = (frame.name(key), relation, frame.name(place))
                answer = YES if [relation, key, place] in truth["relations"] else NO
                text = _wording(IN_PLACE, rng).format(*words)
                yield Question(kind="containment", text=text, answer=answer, cameras=frame.cameras, topic=" ".join(words))


def held_questions(frame: SceneFrame, rng: np.random.Generator) -> Iterator[Question]:
    """Ask what the gripper holds, unless it touches something that it does not hold or not yet."""
    held, touched = frame.truth["held"], frame.truth["touched"]
    if touched not in ([], [held]):
        return
    answer = frame.name(held) if held else NOTHING
    topic = SOMETHING if held else NOTHING  # the hand is empty in half of the questions, however many names there are
    yield Question(kind="held", text=_wording(HELD, rng), answer=answer, cameras=frame.cameras, topic=topic)
    for key in frame.unique():
        if frame.truth["objects"][key]["is_movable"]:
            name = frame.name(key)
            text = _wording(HOLDS, rng).format(name)
            yield Question(kind="held", text=text, answer=YES if key == held else NO, cameras=frame.cameras, topic=name)


def count_questions(frame: SceneFrame, rng: np.random.Generator) -> Iterator[Question]:
    """Ask how many objects, and how many of a group, a camera shows, and how many are to one side of something else."""
    for camera in frame.cameras:
        if frame.unclear(camera):
            continue
        seen = frame.seen(camera)
        groups = {key: frame.truth["objects"][key]["group"] for key in seen}
        for group in ("", *sorted(set(groups.values()) - {""})):
            members = [key for key in seen if not group or groups[key] == group]
            yield _count(COUNT, (group or "objects",), len(members), camera, rng)
            for reference in [key for key in seen if key in frame.unique()] if group else []:
                sides = [frame.is_left(camera, key, reference) for key in members if key != reference]
                if None not in sides and sides:
                    side = _wording(("left", "right"), rng)
                    words = (group, side, frame.name(reference))
                    yield _count(COUNT_SIDE, words, sides.count(side == "left"), camera, rng)


def _count(wordings: Sequence[str], words: Sequence[str], count: int, camera: str, rng: np.random.Generator) -> Question:
    text = _wording(wordings, rng).format(*words)
    return Question(kind="count", text=text, answer=str(count), cameras=(camera,), topic=f"{len(words)} {count}")


def subtask_questions(frame: SceneFrame, rng: np.random.Generator) -> Iterator[Question]:
    """Ask what comes next in the task."""
    if frame.subtask is not None:
        text = _wording(NEXT, rng).format(frame.prompt)
        yield Question(kind="subtask", text=text, answer=frame.subtask, cameras=frame.cameras, topic=frame.subtask)


def _wording(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


KINDS: dict[str, Callable[[SceneFrame, np.random.Generator], Iterator[Question]]] = {
    "box": box_questions,
    "relation": relation_questions,
    "containment": containment_questions,
    "held": held_questions,
    "count": count_questions,
    "subtask": subtask_questions,
}
