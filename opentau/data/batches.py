"""Training batches as a pure function of (seed, update): nothing to save or restore, any update in any order."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from opentau.data.augmentation import Augmentation
from opentau.data.codec import Codec
from opentau.data.frames import FrameTable, chunk_stops
from opentau.data.sampler import EQUAL_SHARES, FrameSampler, PositiveDraw
from opentau.data.telling import Telling, prompts_with
from opentau.data.window import BY_TASK, Window
from opentau.errors import DataError
from opentau.subtasks import with_subtask
from opentau.types import Indicator, derive_seed

# Shapes: F frames, B samples, H actions of a chunk, A action dimensions, S state dimensions, Y and X image rows and columns.


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one update sees."""

    images: dict[str, np.ndarray]
    """Camera name to uint8 [B, Y, X, 3], augmented."""
    state: np.ndarray
    """Encoded, float32 [B, S]."""
    action: np.ndarray
    """Encoded chunks, float32 [B, H, A]; where `action_is_pad`, the chunk's last action that counts."""
    action_is_pad: np.ndarray
    """bool [B, H]: past the end of the episode, or from a takeover on in a chunk that starts before it."""
    prompt: list[str]
    indicator: np.ndarray
    """`Indicator` values before dropout, int8 [B]."""
    weight: np.ndarray
    """Weight of each sample's loss, float32 [B]."""
    frame: np.ndarray
    """Row of the table, int64 [B]."""
    task: np.ndarray
    """Position in the table's `task_ids`, int32 [B]."""
    has_camera: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Camera to bool [B], for cameras that some samples lack; their pixels are zeros."""
    has_action_dim: np.ndarray | None = None
    """bool [B, A], false where an embodiment has fewer actions than the policy; None where all have all."""
    state_dim: np.ndarray | None = None
    """How many numbers of each state an embodiment has, int16 [B]; None where all have all."""
    answer: tuple[str, ...] = ()
    """What is said to the prompt, '' where the sample is no question; empty where no sample is one."""
    part: np.ndarray | None = None
    """Position of each sample's part in the mixture, int16 [B]; None where there is one."""

    def __len__(self) -> int:
        return len(self.prompt)

    def rows(self, positions: np.ndarray) -> Batch:
        """Return some of the samples, int64 [M]."""
        changes: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, np.ndarray):
                changes[each.name] = value[positions]
            elif isinstance(value, Mapping):
                changes[each.name] = {name: column[positions] for name, column in value.items()}
            elif value:
                changes[each.name] = type(value)(value[position] for position in positions)
        return replace(self, **changes)

    @property
    def is_question(self) -> np.ndarray:
        """bool [B]; a question trains what is said and never an action."""
        return np.array([bool(answer) for answer in self.answer or ("",) * len(self)])


class BatchSource:
    """Batches of a frame table; `source(update)` is the same batch whenever and wherever it is asked for."""

    def __init__(
        self,
        table: FrameTable,
        *,
        codec: Codec,
        horizon: int,
        batch_size: int = 1,
        seed: int,
        shares: Mapping[str, float] | None = EQUAL_SHARES,
        positives: PositiveDraw | None = None,
        eligible: np.ndarray | None = None,
        indicator: np.ndarray | None = None,
        weight: np.ndarray | None = None,
        augmentation: Augmentation | None = None,
        action_limit: float = math.inf,
        window: Window | None = None,
        balance: str = BY_TASK,
        subtask_share: float = 0.0,
        telling: Telling | None = None,
        drawn_as: np.ndarray | None = None,
    ) -> None:
        """Prepare to draw.

        `batch_size` is that of ``source(update)``.

        `shares` and `positives` say what a batch consists of (see `FrameSampler`); `eligible` bool [F] leaves frames
        out; `indicator` int8 [F] holds `Indicator` values, absent everywhere when None; `weight` float32 [F] is 1 everywhere
        when None; no augmentation when None. Encoded actions beyond `action_limit` are cut to it: a dimension that hardly
        moves in the statistics has a small scale, and one correction that turns it fully would outweigh a thousand frames.
        `window` draws from so many episodes at a time, for frames that are decoded as they are needed. `subtask_share` of the
        frames whose subtask is known have it in their prompt, and behind it stands what `telling` says. `positives` go by
        `drawn_as` int8 [F], `Indicator` values, where these are not what the policy is told.
        """
        if horizon < 1 or batch_size < 1:
            raise DataError(f"horizon is {horizon}, batch_size {batch_size}; both are at least 1")
        for name, column in (("eligible", eligible), ("indicator", indicator), ("weight", weight), ("drawn_as", drawn_as)):
            if column is not None and column.shape != (len(table),):
                raise DataError(f"{name} has the shape {column.shape}, the table {len(table)} frames; give one value per frame")
        self.table = table
        self.batch_size = batch_size
        self._codec = codec
        self._horizon = horizon
        self._seed = seed
        self._sampler = FrameSampler(
            table,
            shares=shares,
            eligible=eligible,
            indicator=indicator if drawn_as is None else drawn_as,
            positives=positives,
            window=window,
            balance=balance,
        )
        self._indicator = np.full(len(table), Indicator.ABSENT, np.int8) if indicator is None else indicator
        self._weight = np.ones(len(table), np.float32) if weight is None else weight
        self._augmentation = augmentation or Augmentation(shift_share=0.0)
        self._stops = chunk_stops(table)
        self._action_limit = action_limit
        self._subtask_share = subtask_share
        self._telling = telling

    def __call__(self, update: int) -> Batch:
        """Return the batch of one update."""
        rng = np.random.default_rng(derive_seed(self._seed, "batch", update))
        return self.draw(self.batch_size, rng=rng, num_before=update * self.batch_size)

    def draw(self, num_samples: int, *, rng: np.random.Generator, num_before: int) -> Batch:
        """Return so many samples, of a source that `num_before` were drawn of before."""
        return self.batch_of(self._sampler.draw(num_samples, rng, num_before=num_before), rng)

    def batch_of(self, frames: np.ndarray, rng: np.random.Generator) -> Batch:
        """Return a batch of chosen rows int64 [B]; `rng` is used by the augmentation alone."""
        table = self.table
        steps = frames[:, None] + np.arange(self._horizon)
        stops = self._stops[frames][:, None]
        state = self._codec.encode_state(table.state[frames])
        return Batch(
            images={camera: self._augmentation.shift(table.images[camera][frames], rng) for camera in sorted(table.images)},
            state=self._augmentation.add_state_noise(state, rng),
            action=self._codec.encode_action(table.action[np.minimum(steps, stops - 1)]).clip(
                -self._action_limit, self._action_limit
            ),
            action_is_pad=steps >= stops,
            prompt=self._told(self._prompts(frames, rng), frames, rng),
            indicator=self._indicator[frames].astype(np.int8),
            weight=self._weight[frames].astype(np.float32),
            frame=frames,
            task=table.task[frames],
        )

    def _told(self, prompts: list[str], frames: np.ndarray, rng: np.random.Generator) -> list[str]:
        return prompts if self._telling is None else prompts_with(prompts, self._telling.texts(frames, rng))

    def _prompts(self, frames: np.ndarray, rng: np.random.Generator) -> list[str]:
        table = self.table
        prompts = [table.prompts[prompt] for prompt in table.prompt[frames]]
        if not self._subtask_share:
            return prompts
        is_told = rng.random(len(frames)) < self._subtask_share
        subtasks = [
            table.subtasks[subtask] if told else "" for subtask, told in zip(table.subtask[frames], is_told, strict=True)
        ]
        return [with_subtask(prompt, subtask) for prompt, subtask in zip(prompts, subtasks, strict=True)]
