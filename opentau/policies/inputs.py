"""The tensors that the model reads: what was observed, and what should be said about it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

# Shapes: B batch, C cameras, Y and X image rows and columns, P prompt tokens, S state dimensions, I indicator tokens,
# M samples that say something, F tokens.


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixInputs:
    """A batch of observations."""

    images_BCYX3: Tensor
    """uint8, zeros where a camera is missing."""
    has_camera_BC: Tensor
    """bool."""
    prompt_BP: Tensor
    """Token ids, int64."""
    has_prompt_BP: Tensor
    """bool, false for padding."""
    state_BS: Tensor
    """float32, encoded by the codec, zeros where an embodiment has fewer dimensions."""
    has_state_B: Tensor
    """bool, false for questions."""
    indicator_B: Tensor
    """`Indicator` values, int64."""
    indicator_BI: Tensor
    """The same as text, token ids, int64; I = 0 where the policy has no indicator text."""

    def __len__(self) -> int:
        return len(self.state_BS)

    def to(self, device: torch.device) -> PrefixInputs:
        """Return a copy on another device."""
        return PrefixInputs(**{field.name: getattr(self, field.name).to(device) for field in dataclasses.fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class SpokenInputs:
    """What some samples should say, action tokens or text; F is the longest of them."""

    row_M: Tensor
    """Rows of the batch that take part, int64."""
    token_MF: Tensor
    """What is read: the opening token, then what is said, int64."""
    target_MF: Tensor
    """What should be said, then the end, int64."""
    is_target_MF: Tensor
    """bool, false for padding."""
