"""The question which subtask comes next, asked about recorded frames of which that is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from opentau.data.batches import Batch, BatchSource
from opentau.errors import DataError
from opentau.subtasks import QUESTION
from opentau.types import Indicator

# Shapes: B samples, F frames.


class SubtaskSource:
    """Draws frames as questions; protocol `SampleSource`."""

    def __init__(self, make: Callable[..., BatchSource], *, eligible: np.ndarray, has_subtask: np.ndarray) -> None:
        """`make` builds the source that acting samples are drawn from; bool [F] say which frames may be asked about."""
        if not (eligible & has_subtask).any():
            raise DataError(
                "no frame says what it is about; record demonstrations with an expert that tells, or set "
                "mixture.subtask_weight=0"
            )
        self._num_frames = int((eligible & has_subtask).sum())
        self._frames = make(eligible=eligible & has_subtask)

    def __len__(self) -> int:
        return self._num_frames

    def draw(self, num_samples: int, *, rng: np.random.Generator, num_before: int) -> Batch:
        """Return so many questions about frames, each answered by the frame's subtask."""
        return as_questions(self._frames.draw(num_samples, rng=rng, num_before=num_before), self._frames)


def as_questions(batch: Batch, source: BatchSource) -> Batch:
    """Return the batch as questions: pictures and task are the same, nothing is acted."""
    table = source.table
    return replace(
        batch,
        prompt=[QUESTION.format(table.prompts[prompt]) for prompt in table.prompt[batch.frame]],
        answer=tuple(table.subtasks[subtask] for subtask in table.subtask[batch.frame]),
        action_is_pad=np.ones_like(batch.action_is_pad),
        indicator=np.full(len(batch), Indicator.ABSENT, np.int8),
    )
