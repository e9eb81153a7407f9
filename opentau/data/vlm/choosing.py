"""Which of many possible questions make a data set: a mix of kinds, spread over topics, yes and no in equal numbers."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence

import numpy as np

from opentau.data.vlm.questions import NO, YES, Question

YES_NO_SHARES: Mapping[str, float] = {"relation": 0.12, "containment": 0.12, "held": 0.1}
"""Of all questions, answered yes or no."""
OPEN_SHARES: Mapping[str, float] = {"box": 0.3, "relation": 0.08, "held": 0.06, "count": 0.1, "subtask": 0.12}
"""Of all questions, with any other answer."""


def choose(questions: Sequence[Question], count: int, rng: np.random.Generator) -> list[Question]:
    """Return up to `count` questions in the order given.

    Where a kind has too few, open questions of the others fill up; a yes is only taken together with a no, about the same
    topic as long as there are such, so that neither a constant answer nor the topic alone is right more often than not.
    """
    chosen: list[Question] = []
    for kind, share in YES_NO_SHARES.items():
        pool = [question for question in questions if question.kind == kind and question.is_yes_no]
        chosen += _pairs(pool, round(share * count / 2), rng)
    pools = {kind: [q for q in questions if q.kind == kind and not q.is_yes_no] for kind in OPEN_SHARES}
    spread = {kind: _spread(pool, rng) for kind, pool in pools.items()}
    taken = {kind: round(share * count) for kind, share in OPEN_SHARES.items()}
    for kind in OPEN_SHARES:
        chosen += spread[kind][: taken[kind]]
    rest = [question for kind in OPEN_SHARES for question in spread[kind][taken[kind] :]]
    chosen = [*chosen, *rest][: max(count, 0)]
    return sorted(chosen, key=lambda question: (question.episode, question.tick, question.number))


def _pairs(pool: Sequence[Question], num_pairs: int, rng: np.random.Generator) -> list[Question]:
    """Return as many yes as no: pairs of one topic first, then of any."""
    spread = _spread(pool, rng)
    no_of_topic: dict[str, deque[Question]] = defaultdict(deque)
    for question in spread:
        if question.answer == NO:
            no_of_topic[question.topic].append(question)
    pairs, left_over = [], []
    for question in spread:
        if question.answer == YES and no_of_topic[question.topic]:
            pairs.append((question, no_of_topic[question.topic].popleft()))
        elif question.answer == YES:
            left_over.append(question)
    pairs += zip(left_over, (question for rest in no_of_topic.values() for question in rest), strict=False)
    return [question for pair in pairs[:num_pairs] for question in pair]


def _spread(pool: Sequence[Question], rng: np.random.Generator) -> list[Question]:
    """Return the questions in an order of which every beginning holds the topics as evenly as possible."""
    shuffled = [pool[index] for index in rng.permutation(len(pool))]
    rounds: dict[str, int] = {}
    turns = []
    for question in shuffled:
        turns.append(rounds.get(question.topic, 0))
        rounds[question.topic] = turns[-1] + 1
    return [shuffled[index] for index in np.argsort(turns, kind="stable")]
