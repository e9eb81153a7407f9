"""Answers are right or wrong without regard to case and spaces; boxes count by how much they overlap."""

from __future__ import annotations

import pytest

from opentau.data.vlm.boxes import write_boxes
from opentau.data.vlm.scoring import box_overlaps, score_answers

LEFT, SHIFTED, FAR = (0.25, 0.0, 0.5, 0.25), (0.25, 0.125, 0.5, 0.375), (0.75, 0.75, 1.0, 1.0)


def test_yes_and_no_are_counted_apart_from_other_answers():
    said, wanted = ["Yes", "no", "milk ", "two"], ["yes", "yes", "milk", "three"]
    scores = score_answers(said, wanted, ["held", "held", "held", "count"])
    assert scores == {"count_accuracy": 0.0, "held_accuracy": 2 / 3, "vqa_accuracy": 0.5, "yes_no_accuracy": 0.5}


@pytest.mark.parametrize(("box", "overlap"), [(LEFT, 1.0), (SHIFTED, 1 / 3), (FAR, 0.0)])
def test_overlap_is_intersection_over_union(box, overlap):
    assert box_overlaps(write_boxes([(box, "milk")]), write_boxes([(LEFT, "milk")])) == [pytest.approx(overlap, abs=0.02)]


def test_a_missing_a_superfluous_and_a_malformed_box_count_nothing():
    two, one = write_boxes([(LEFT, "milk"), (FAR, "soup")]), write_boxes([(LEFT, "milk")])
    assert box_overlaps(one, two) == [pytest.approx(1.0), 0.0]
    assert box_overlaps(two, one) == [pytest.approx(1.0), 0.0]
    assert box_overlaps("<loc0001><loc0002> milk", two) == [0.0, 0.0]
    assert box_overlaps("the milk", one) == [0.0]


def test_boxes_are_found_by_name_and_not_by_place():
    one, other = (LEFT, "milk"), (FAR, "soup")
    assert box_overlaps(write_boxes([other, one]), write_boxes([one, other])) == [pytest.approx(1.0), pytest.approx(1.0)]
    assert box_overlaps(write_boxes([(LEFT, "soup")]), write_boxes([one])) == [0.0]


def test_the_score_of_boxes_is_their_median_and_they_are_no_words():
    wanted = [write_boxes([(LEFT, "milk")])] * 3
    said = [wanted[0], write_boxes([(SHIFTED, "milk")]), "nothing"]
    scores = score_answers(said, wanted, ["box"] * 3)
    assert scores == {"box_iou": pytest.approx(1 / 3, abs=0.02)}
