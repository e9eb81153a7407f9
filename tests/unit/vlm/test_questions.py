"""Questions of one frame: right answers, and none where the frame leaves a doubt."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
import pytest

from envs.experts.pick_place import Phase
from opentau.data.vlm.boxes import NUM_BINS, read_boxes, write_boxes
from opentau.data.vlm.choosing import choose
from opentau.data.vlm.facts import MARGIN, SceneFrame
from opentau.data.vlm.questions import NO, NOTHING, YES, Question, questions_of
from opentau.errors import DataError
from opentau.subtasks import subtask_sentence

MILK, SOUP, BASKET = "milk_1", "soup_1", "basket_1"
BOXES = {MILK: [0.2, 0.1, 0.4, 0.2], SOUP: [0.2, 0.4, 0.4, 0.5], BASKET: [0.5, 0.7, 0.9, 0.95]}


def frame(*, boxes: dict[str, list[float]] = BOXES, names: dict[str, str] | None = None, **truth: Any) -> SceneFrame:
    """Return a frame of one camera with milk, soup and basket from left to right."""
    words = {MILK: "milk", SOUP: "soup", BASKET: "basket"} | (names or {})
    objects = {
        key: {
            "name": words[key],
            "group": "" if key == BASKET else "groceries",
            "position": [0.0, 0.0, 0.0],
            "is_movable": True,
        }
        for key in boxes
    }
    seen = {key: {"box": box, "share": (box[2] - box[0]) * (box[3] - box[1])} for key, box in boxes.items()}
    facts = {"objects": objects, "cameras": {"agentview": seen}, "held": None, "touched": [], "places": [["in", BASKET]]}
    return SceneFrame(
        episode=3,
        tick=7,
        prompt="put the milk in the basket",
        cameras=("agentview",),
        truth=facts | {"relations": []} | truth,
        subtask="reach for the milk",
    )


def asked(frame: SceneFrame, kind: str, *, seed: int = 0) -> list[Question]:
    return [question for question in questions_of(frame, np.random.default_rng(seed)) if question.kind == kind]


@pytest.mark.parametrize("coordinate", [0.0, 0.25, 0.4999, 1023.9 / 1024, 1.0, *np.random.default_rng(0).random(20)])
def test_a_box_survives_its_tokens_to_half_a_bin(coordinate: float) -> None:
    box = (coordinate, 0.0, 1.0, 0.5)
    text = write_boxes([(box, "red cube"), ((0.1, 0.2, 0.3, 0.4), "tray")])
    assert re.fullmatch(r"(<loc\d{4}>){4} red cube ; (<loc\d{4}>){4} tray", text)
    (read, name), (_, second) = read_boxes(text)
    assert (name, second) == ("red cube", "tray")
    assert np.abs(np.subtract(read, box)).max() <= 0.5 / NUM_BINS + 1e-12
    assert write_boxes(read_boxes(text)) == text


def test_the_order_of_tokens_is_top_left_bottom_right() -> None:
    assert write_boxes([((0.0, 0.25, 0.5, 1.0), "milk")]) == "<loc0000><loc0256><loc0512><loc1023> milk"


@pytest.mark.parametrize("text", ["milk", "<loc0001><loc0002><loc0003> milk", "<loc0001><loc0002><loc0003><loc1024> milk"])
def test_text_that_is_no_box_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="is no box"):
        read_boxes(text)


def test_a_box_outside_the_image_is_refused() -> None:
    with pytest.raises(DataError, match=r"1\.01.*\[0, 1\]"):
        write_boxes([((0.0, 0.0, 1.01, 1.0), "milk")])


def test_every_seen_name_is_asked_for_with_its_own_box() -> None:
    questions = asked(frame(), "box")
    answers = {question.topic: read_boxes(question.answer) for question in questions}
    assert set(answers) == {"milk", "soup", "basket", "two names"}
    ((box, name),) = answers["milk"]
    assert name == "milk"
    assert box == pytest.approx(BOXES[MILK], abs=1 / NUM_BINS)
    assert len(answers["two names"]) == 2
    assert all(question.cameras == ("agentview",) for question in questions)


def test_a_name_of_two_objects_gets_both_boxes_and_no_question_that_means_one() -> None:
    twins = frame(names={SOUP: "milk"})
    answers = {question.topic: read_boxes(question.answer) for question in asked(twins, "box")}
    assert [name for _, name in answers["milk"]] == ["milk", "milk"]
    one_sided = [*asked(twins, "relation"), *asked(twins, "containment")]
    assert not any("milk" in question.text for question in one_sided)


@pytest.mark.parametrize("seed", range(5))
def test_left_and_right_are_as_in_the_picture(seed: int) -> None:
    order = ["milk", "soup", "basket"]
    questions = asked(frame(), "relation", seed=seed)
    assert len(questions) == 9
    for question in questions:
        side = re.search(r"left|right", question.text)[0]
        first, second = sorted((name for name in order if name in question.text), key=question.text.index)
        if question.is_yes_no:
            assert question.answer == (YES if (order.index(first) < order.index(second)) == (side == "left") else NO)
        else:
            assert question.answer == (min if side == "left" else max)(first, second, key=order.index)
    assert Counter(question.answer for question in questions if question.is_yes_no) == {YES: 3, NO: 3}


@pytest.mark.parametrize(
    "soup", [[0.6, 0.1 + MARGIN - 0.01, 0.7, 0.2 + MARGIN - 0.01], [0.6, 0.12, 0.8, 0.6]], ids=["close", "across"]
)
def test_a_pair_that_is_neither_left_nor_right_is_not_asked_about(soup: list[float]) -> None:
    questions = asked(frame(boxes=BOXES | {SOUP: soup}), "relation")
    assert questions
    assert not any("milk" in question.text and "soup" in question.text for question in questions)


def test_an_object_that_hardly_shows_is_neither_located_nor_compared_nor_counted_around() -> None:
    hidden = frame(boxes=BOXES | {SOUP: [0.2, 0.4, 0.215, 0.5]})
    assert not any("soup" in question.text for kind in ("box", "relation") for question in asked(hidden, kind))
    assert asked(hidden, "count") == []


def test_what_is_held_is_asked_only_where_hand_and_object_leave_no_doubt() -> None:
    assert asked(frame(touched=[MILK]), "held") == []
    assert asked(frame(held=MILK, touched=[MILK, SOUP]), "held") == []
    empty = asked(frame(), "held")
    assert {question.answer for question in empty} == {NOTHING, NO}
    full = {question.topic: question.answer for question in asked(frame(held=MILK, touched=[MILK]), "held")}
    assert full == {"something": "milk", "milk": YES, "soup": NO, "basket": NO}
    open_answers = [question.answer for question in asked(frame(held=MILK, touched=[MILK]), "held") if not question.is_yes_no]
    assert open_answers == ["milk"]


def test_containment_follows_the_relations_and_leaves_out_what_is_touched() -> None:
    questions = asked(frame(touched=[MILK], relations=[["in", SOUP, BASKET]]), "containment")
    assert {question.topic: question.answer for question in questions} == {"soup in basket": YES}
    assert {question.answer for question in asked(frame(), "containment")} == {NO}


def test_counts_are_of_what_is_seen_and_of_one_side() -> None:
    for question in asked(frame(), "count"):
        if "left" in question.text or "right" in question.text:
            others = {"milk": (0, 1), "soup": (1, 0), "basket": (2, 0)}
            reference = next(name for name in others if f"the {name}" in question.text)
            assert question.answer == str(others[reference]["right" in question.text])
        else:
            assert question.answer == ("2" if "groceries" in question.text else "3")


def test_the_subtask_question_holds_the_instruction() -> None:
    (question,) = asked(frame(), "subtask")
    assert "put the milk in the basket" in question.text
    assert question.answer == "reach for the milk"


def test_every_phase_of_the_scripted_expert_has_a_sentence() -> None:
    sentences = [subtask_sentence(str(phase), thing="milk", place="basket", relation="in") for phase in Phase]
    assert "move the milk to the basket" in sentences
    assert "place the milk in the basket" in sentences
    with pytest.raises(DataError, match=r"'reech'.*Did you mean 'reach'"):
        subtask_sentence("reech", thing="milk", place="basket", relation="in")


def test_one_seed_gives_one_wording_and_numbers_are_unique_within_a_frame() -> None:
    first, again = (questions_of(frame(), np.random.default_rng(4)) for _ in range(2))
    assert first == again
    assert [question.number for question in first] == list(range(len(first)))
    assert {question.text for question in first} != {
        question.text for question in questions_of(frame(), np.random.default_rng(5))
    }


def pool(*, num_yes: int, num_no: int, kind: str = "held", topic: str = "milk", first: int = 0) -> list[Question]:
    answers = [YES] * num_yes + [NO] * num_no
    return [
        Question(kind=kind, text="?", answer=answer, cameras=("a",), topic=topic, episode=0, tick=0, number=first + index)
        for index, answer in enumerate(answers)
    ]


@pytest.mark.parametrize(("num_yes", "num_no"), [(400, 3), (3, 400), (200, 200), (10, 0)])
def test_yes_and_no_are_equally_frequent_whatever_there_is_more_of(num_yes: int, num_no: int) -> None:
    chosen = choose(pool(num_yes=num_yes, num_no=num_no), 400, np.random.default_rng(0))
    counts = Counter(question.answer for question in chosen)
    assert counts[YES] == counts[NO] == min(num_yes, num_no, 20)


def test_yes_and_no_are_balanced_within_a_topic_before_others_fill_up() -> None:
    questions = pool(num_yes=5, num_no=30) + pool(num_yes=30, num_no=5, topic="soup", first=100)
    chosen = choose(questions, 200, np.random.default_rng(0))
    counts = Counter((question.topic, question.answer) for question in chosen)
    assert counts == {(topic, answer): 5 for topic in ("milk", "soup") for answer in (YES, NO)}


def test_open_questions_spread_over_topics_and_fill_up_what_other_kinds_lack() -> None:
    common, rare = (
        [
            Question(kind="count", text="?", answer=answer, cameras=("a",), topic=answer, episode=0, tick=tick, number=0)
            for tick in range(number)
        ]
        for answer, number in (("7", 100), ("2", 5))
    )
    chosen = choose([*common, *rare], 50, np.random.default_rng(0))
    assert len(chosen) == 50
    assert Counter(question.answer for question in chosen)["2"] == 5
