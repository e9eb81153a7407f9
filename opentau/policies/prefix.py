"""How a vision tower and a backbone read an observation, and what is said after it: the same for policies and critics."""

# Shapes: B batch, C cameras, P image tokens, Y and X image rows and columns, T prefix tokens, F tokens that follow, W width,
# K tokens attended to, S state dimensions, I indicator tokens, M rows.

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opentau.models.attention import KeysValues
from opentau.models.masks import additive, attention_mask, block_ids, positions_of
from opentau.models.transformer import Transformer
from opentau.models.vision import scaled_pixels
from opentau.policies.inputs import PrefixInputs


class Reader(Protocol):
    """A model with the parts that read."""

    training: bool

    @property
    def vision(self) -> nn.Module:
        """From pixels to tokens."""
        ...

    @property
    def camera_embedding(self) -> nn.Embedding | None:
        """Added to the tokens of each camera."""
        ...

    @property
    def text_embedding(self) -> nn.Embedding: ...

    @property
    def state_in(self) -> nn.Linear | None:
        """From the encoded state to a token of its own."""
        ...

    @property
    def backbone(self) -> Transformer: ...

    @property
    def has_scaled_words(self) -> bool:
        """Whether embedded words are multiplied by the root of the width."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """What the backbone offers about a batch of observations, computed once and read by continuations and by the expert."""

    offered: tuple[KeysValues, ...]
    """Keys and values of every layer, [B, G, T, D]: images, prompt, state, then the indicator's text."""
    has_token_BT: Tensor
    """bool, false for padding and missing cameras."""
    num_indicator_tokens: int
    """Tokens at the end that spell the indicator; no other token attends to them."""
    stream_BTW: Tensor
    """The residual stream that enters the last layer."""
    indicator_B: Tensor
    """`Indicator` values, int64."""
    state_BS: Tensor
    """The encoded state, for experts that read it themselves."""

    def detached(self) -> Prefix:
        """Return the same numbers without their history, so that no gradient reaches the backbone (knowledge insulation)."""
        return self._map(Tensor.detach)

    def rows(self, row_M: Tensor) -> Prefix:
        """Return some rows, int64 [M]; a row may be taken several times."""
        return self._map(lambda tensor: tensor[row_M])

    def repeated(self, count: int) -> Prefix:
        """Return every row `count` times, copies side by side."""
        return self if count == 1 else self._map(lambda tensor: tensor.repeat_interleave(count, dim=0))

    def without_indicator(self) -> Prefix:
        """Return the prefix as it is under no indicator; exact, since nothing before the indicator's text has seen it."""
        kept_BT = self.has_token_BT.clone()
        kept_BT[:, kept_BT.shape[1] - self.num_indicator_tokens :] = False
        return dataclasses.replace(self, has_token_BT=kept_BT, indicator_B=torch.full_like(self.indicator_B, -1))

    def _map(self, change: Callable[[Tensor], Tensor]) -> Prefix:
        return dataclasses.replace(
            self,
            offered=tuple(KeysValues(*map(change, layer)) for layer in self.offered),
            has_token_BT=change(self.has_token_BT),
            stream_BTW=change(self.stream_BTW),
            indicator_B=change(self.indicator_B),
            state_BS=change(self.state_BS),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What tokens that follow attend to: a prefix, then everything said since."""

    offered: tuple[KeysValues, ...]
    """Keys and values of every layer, [B, G, T, D]."""
    has_token_BT: Tensor
    """bool."""


def read_observation(model: Reader, inputs: PrefixInputs) -> Prefix:
    """Read a batch of observations.

    Images, prompt and state attend to each other; the indicator's text follows as a block that sees them and is not seen.
    """
    embedded_BTW, has_token_BT = embed_observation(model, inputs)
    num_indicator_tokens = inputs.indicator_BI.shape[1]
    lengths = [embedded_BTW.shape[1]]
    if num_indicator_tokens:
        lengths.append(num_indicator_tokens)
        has_indicator_BI = (inputs.indicator_B >= 0)[:, None].expand(-1, num_indicator_tokens)
        embedded_BTW = torch.cat((embedded_BTW, embed_text(model, inputs.indicator_BI)), dim=1)
        has_token_BT = torch.cat((has_token_BT, has_indicator_BI), dim=1)
    blocks_T = block_ids(lengths, device=embedded_BTW.device)
    allowed_BTT = attention_mask(query_blocks_Q=blocks_T, key_blocks_K=blocks_T, key_valid_BK=has_token_BT)
    offered, stream_BTW = model.backbone.offer(
        embedded_BTW, rotations=model.backbone.rotations(positions_of(has_token_BT)), mask_B1TC=additive(allowed_BTT)
    )
    return Prefix(
        offered=offered,
        has_token_BT=has_token_BT,
        num_indicator_tokens=num_indicator_tokens,
        stream_BTW=stream_BTW,
        indicator_B=inputs.indicator_B,
        state_BS=inputs.state_BS,
    )


def follow(model: Reader, seen: Prefix | Said, embedded_BFW: Tensor) -> tuple[Tensor, Said]:
    """Return the stream over tokens that follow causally, [B, F, W], and what the next ones attend to."""
    length = embedded_BFW.shape[1]
    # Blocks 0 and 1 are the prefix; every token is a block of its own.
    blocks_F = torch.arange(2, 2 + length, device=embedded_BFW.device)
    has_token_BT = F.pad(seen.has_token_BT, (0, length), value=True)
    allowed_BFK = attention_mask(
        query_blocks_Q=blocks_F,
        key_blocks_K=F.pad(blocks_F, (seen.has_token_BT.shape[1], 0)),
        key_valid_BK=has_token_BT,
    )
    positions_BF = seen.has_token_BT.sum(dim=1, keepdim=True) + torch.arange(length, device=embedded_BFW.device)
    stream_BFW, offered = model.backbone.extend(
        embedded_BFW,
        rotations=model.backbone.rotations(positions_BF),
        mask_B1TC=additive(allowed_BFK),
        context=seen.offered,
    )
    return stream_BFW, Said(offered=offered, has_token_BT=has_token_BT)


def embed_observation(model: Reader, inputs: PrefixInputs) -> tuple[Tensor, Tensor]:
    """Return tokens [B, T, W] of images, prompt and state, and which of them are no padding."""
    tokens_BCPW = _look(model, inputs)
    if model.camera_embedding is not None:
        tokens_BCPW = tokens_BCPW + model.camera_embedding.weight[:, None]
    num_image_tokens = tokens_BCPW.shape[2]
    parts = [tokens_BCPW.flatten(1, 2), embed_text(model, inputs.prompt_BP)]
    has_token = [inputs.has_camera_BC.repeat_interleave(num_image_tokens, dim=1), inputs.has_prompt_BP]
    if model.state_in is not None:
        parts.append(model.state_in(inputs.state_BS)[:, None])
        has_token.append(inputs.has_state_B[:, None])
    return torch.cat(parts, dim=1), torch.cat(has_token, dim=1)


def _look(model: Reader, inputs: PrefixInputs) -> Tensor:
    """Return the image tokens, [B, C, P, W]; in training the tower sees present cameras only, missing ones give zeros.

    When serving it sees all of them, so that what a request lacks changes no shape and no bit of another's answer.
    """
    images_MYX3, has_camera_M = inputs.images_BCYX3.flatten(0, 1), inputs.has_camera_BC.flatten()
    if not model.training or has_camera_M.all():
        return model.vision(scaled_pixels(images_MYX3)).unflatten(0, inputs.has_camera_BC.shape)
    seen_NPW = model.vision(scaled_pixels(images_MYX3[has_camera_M]))
    tokens_MPW = seen_NPW.new_zeros((len(images_MYX3), *seen_NPW.shape[1:]))
    return tokens_MPW.masked_scatter(has_camera_M[:, None, None], seen_NPW).unflatten(0, inputs.has_camera_BC.shape)


def embed_text(model: Reader, token_BF: Tensor) -> Tensor:
    """Return embedded tokens, float32; scaled as Gemma does, they have unit size per dimension."""
    embedded_BFW = model.text_embedding(token_BF).float()
    return embedded_BFW * math.sqrt(model.text_embedding.embedding_dim) if model.has_scaled_words else embedded_BFW
