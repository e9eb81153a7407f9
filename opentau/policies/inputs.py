"""The tensors that the model reads: what was observed, and what should be said about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from opentau.policies.published_tokenizer import PublishedTokenizer
from opentau.policies.text_tokenizer import TextTokenizer

# Shapes: B batch, C cameras, Y and X image rows and columns, P prompt tokens, V wordings of a prompt, S state dimensions,
# I indicator tokens, M samples that say something, F tokens.


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
    worded_BVP: Tensor
    """The prompt under each `Indicator`, -1, 0 and 1, where that is part of it; V = 0 where it is not."""
    has_worded_BVP: Tensor
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

    def cut(self) -> PrefixInputs:
        """Return the same with prompts that are padded to the longest of them, under whatever indicator."""
        has_any_P = self.has_prompt_BP.any(dim=0)
        if self.has_worded_BVP.shape[1]:
            has_any_P = self.has_worded_BVP.flatten(0, 1).any(dim=0)
        longest = int(has_any_P.sum())
        names = ("prompt_BP", "has_prompt_BP", "worded_BVP", "has_worded_BVP")
        return dataclasses.replace(self, **{name: getattr(self, name)[..., :longest] for name in names})

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


def spoken_inputs(
    said: Sequence[tuple[int, list[int]]], *, first_id: int, text: TextTokenizer | PublishedTokenizer
) -> SpokenInputs:
    """Return sequences that are opened by a marker and closed by the end of speech, padded to the longest."""
    length = 1 + max(len(ids) for _, ids in said)
    token_MF = torch.full((len(said), length), text.pad_id)
    target_MF = torch.full((len(said), length), text.pad_id)
    is_target_MF = torch.zeros((len(said), length), dtype=torch.bool)
    for index, (_, ids) in enumerate(said):
        spoken = torch.tensor(ids, dtype=torch.int64)
        token_MF[index, 0], token_MF[index, 1 : len(ids) + 1] = first_id, spoken
        target_MF[index, : len(ids)], target_MF[index, len(ids)] = spoken, text.eos_id
        is_target_MF[index, : len(ids) + 1] = True
    rows = torch.tensor([row for row, _ in said])
    return SpokenInputs(row_M=rows, token_MF=token_MF, target_MF=target_MF, is_target_MF=is_target_MF)
