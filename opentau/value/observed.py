"""What a vision-language critic reads: pixels and words as the policy reads them, of recorded frames and of live requests."""

# Shapes: F frames, B samples, C cameras, Y and X image rows and columns, P prompt tokens, K actions of a chunk, A action
# dimensions.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from opentau.data.codec import Codec
from opentau.data.frames import FrameColumn, FrameTable, chunk_stops
from opentau.policies.inputs import PrefixInputs
from opentau.policies.processor import Processor


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixels:
    """The frames of all of a policy's cameras, uint8 [B, C, Y, X, 3] at rows int64 [B], decoded when they are asked for."""

    images: Mapping[str, FrameColumn]
    cameras: Sequence[str]
    """In the policy's order; those that the table lacks are black."""
    num_frames: int

    def __len__(self) -> int:
        return self.num_frames

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        seen = {camera: self.images[camera][rows] for camera in self.cameras if camera in self.images}
        blank = np.zeros_like(next(iter(seen.values())))
        return np.stack([seen.get(camera, blank) for camera in self.cameras], axis=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTokens:
    """The words of a table's prompts, int64 [B, P] at rows int64 [B], -1 for padding; they spell the state where it is text."""

    table: FrameTable
    processor: Processor

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        table, prompted = self.table, self.processor.embodiment.prompted
        prompts = [prompted(table.prompts[prompt]) for prompt in table.prompt[rows]]
        return self.processor.prompt_tokens(prompts, state_BS=self.processor.codec.encode_state(table.state[rows]))


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayedActions:
    """The encoded actions that follow each frame, float32 [B, K, A] at rows int64 [B]; `is_whole` says where there are K."""

    table: FrameTable
    codec: Codec
    num_actions: int
    """K."""

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self.codec.encode_action(self.table.action[rows[:, None] + np.arange(self.num_actions)])

    @property
    def is_whole(self) -> np.ndarray:
        """Return the frames that K actions of one who acts follow, in their own episode, bool [F]."""
        return np.arange(len(self.table)) + self.num_actions <= chunk_stops(self.table)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanged:
    """A column in which every frame has what another frame has, as `order` int64 [F] says."""

    column: PlayedActions
    order: np.ndarray

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self.column[self.order[rows]]


def has_cameras(table: FrameTable, cameras: Sequence[str]) -> np.ndarray:
    """Return which of a policy's cameras the frames have, bool [F, C]."""
    return np.tile([camera in table.images for camera in cameras], (len(table), 1))


def request_columns(inputs: PrefixInputs) -> dict[str, np.ndarray]:
    """Return the pixels, cameras and words of requests that a policy's processor has read."""
    token_BP = inputs.prompt_BP.masked_fill(~inputs.has_prompt_BP, -1)
    return {"pixels": inputs.images_BCYX3.numpy(), "has_camera": inputs.has_camera_BC.numpy(), "tokens": token_BP.numpy()}
