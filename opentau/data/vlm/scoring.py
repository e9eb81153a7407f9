"""How good answers are: right or wrong, and for boxes how much they overlap."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from opentau.data.vlm.boxes import read_boxes
from opentau.errors import DataError

YES_NO = ("yes", "no")


def score_answers(answers: Sequence[str], wanted: Sequence[str], kinds: Sequence[str]) -> dict[str, float]:
    """Return metrics by name.

    ``vqa_accuracy`` over answers without boxes and ``yes_no_accuracy`` over yes and no, each compared without regard to case
    and spaces; ``box_iou`` is the median intersection over union of boxes, a missing or superfluous one counting 0. A metric
    of which there are no questions is left out.
    """
    scores: dict[str, list[float]] = defaultdict(list)
    for said, right, kind in zip(answers, wanted, kinds, strict=True):
        if "<loc" in right:
            scores["box_iou"] += box_overlaps(said, right)
            continue
        is_right = float(_plain(said) == _plain(right))
        scores["vqa_accuracy"].append(is_right)
        if kind:
            scores[f"{kind}_accuracy"].append(is_right)
        if _plain(right) in YES_NO:
            scores["yes_no_accuracy"].append(is_right)
    return {name: float(np.median(values) if name == "box_iou" else np.mean(values)) for name, values in sorted(scores.items())}


def box_overlaps(said: str, wanted: str) -> list[float]:
    """Return the intersection over union of every wanted box with the best one said of its name, in whatever order.

    A missing and a superfluous box count 0.
    """
    right = read_boxes(wanted)
    try:
        left = read_boxes(said)
    except DataError:  # what a policy says need not be a box
        left = []
    num_superfluous = max(0, len(left) - len(right))
    overlaps = []
    for box, name in right:
        candidates = [index for index, (_, other) in enumerate(left) if _plain(other) == _plain(name)]
        best = max(candidates, key=lambda index: _overlap(left[index][0], box), default=None)
        overlaps.append(0.0 if best is None else _overlap(left.pop(best)[0], box))
    return overlaps + [0.0] * num_superfluous


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Return intersection over union of boxes (y_min, x_min, y_max, x_max)."""
    height = min(one[2], other[2]) - max(one[0], other[0])
    width = min(one[3], other[3]) - max(one[1], other[1])
    if height <= 0 or width <= 0:
        return 0.0
    area = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1])
    return height * width / (area - height * width)


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
