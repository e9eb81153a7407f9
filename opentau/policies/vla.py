"""The model: a vision tower and a transformer backbone that read an observation, an action expert that reads them."""

# Shapes: B batch, C cameras, P image tokens, Y and X image rows and columns, T prefix tokens, F continuation tokens, W width,
# K tokens attended to, V vocabulary, H actions of a chunk, A action dimensions, X flow times of a chunk (1 or H),
# S state dimensions, I indicator tokens, M rows.

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opentau.models.attention import KeysValues
from opentau.models.expert import ActionExpert, ExpertContext
from opentau.models.initialisation import initialise
from opentau.models.masks import additive, attention_mask, block_ids, positions_of
from opentau.models.transformer import Transformer
from opentau.models.vision import scaled_pixels, vision_tower
from opentau.policies.config import PolicyConfig, StateInput, TextHead
from opentau.policies.inputs import PrefixInputs


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


class VLA(nn.Module):
    """A vision-language-action model of the π family, assembled from a configuration."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        width = config.backbone.width
        self.vision = vision_tower(config.vision, width=width)
        self.camera_embedding = nn.Embedding(len(config.cameras), width) if config.has_camera_embedding else None
        self.text_embedding = nn.Embedding(config.vocab_size, width)
        self.text_head = None
        if config.text_head is not TextHead.TIED:
            self.text_head = nn.Linear(width, config.vocab_size, bias=config.text_head is TextHead.BIASED)
        self.state_in = nn.Linear(config.state_dim, width) if config.state_input is StateInput.TOKEN else None
        self.backbone = Transformer(config.backbone)
        self.expert = ActionExpert(
            config.expert,
            action_dim=config.action_dim,
            action_horizon=config.action_horizon,
            state_dim=config.state_dim if config.state_input is StateInput.EXPERT else 0,
            has_indicator=config.has_indicator_embedding,
        )

    @classmethod
    def create(cls, config: PolicyConfig, *, seed: int) -> VLA:
        """Return a model with fresh weights, a function of the seed."""
        with torch.random.fork_rng(devices=[]):
            model = cls(config)
        initialise(model, seed=seed)
        return model

    def prefix(self, inputs: PrefixInputs) -> Prefix:
        """Read a batch of observations.

        Images, prompt and state attend to each other; the indicator's text follows as a block that sees them and is not seen.
        """
        embedded_BTW, has_token_BT = self.embed_observation(inputs)
        num_indicator_tokens = inputs.indicator_BI.shape[1]
        lengths = [embedded_BTW.shape[1]]
        if num_indicator_tokens:
            lengths.append(num_indicator_tokens)
            has_indicator_BI = (inputs.indicator_B >= 0)[:, None].expand(-1, num_indicator_tokens)
            embedded_BTW = torch.cat((embedded_BTW, self._embed_text(inputs.indicator_BI)), dim=1)
            has_token_BT = torch.cat((has_token_BT, has_indicator_BI), dim=1)
        blocks_T = block_ids(lengths, device=embedded_BTW.device)
        allowed_BTT = attention_mask(query_blocks_Q=blocks_T, key_blocks_K=blocks_T, key_valid_BK=has_token_BT)
        offered, stream_BTW = self.backbone.offer(
            embedded_BTW, rotations=self.backbone.rotations(positions_of(has_token_BT)), mask_B1TC=additive(allowed_BTT)
        )
        return Prefix(
            offered=offered,
            has_token_BT=has_token_BT,
            num_indicator_tokens=num_indicator_tokens,
            stream_BTW=stream_BTW,
            indicator_B=inputs.indicator_B,
            state_BS=inputs.state_BS,
        )

    def expert_context(self, prefix: Prefix) -> ExpertContext:
        """Return what the expert needs of a prefix, for any number of calls of `velocity`."""
        return self.expert.context(
            prefix.offered, is_valid_BC=prefix.has_token_BT, indicator_B=prefix.indicator_B, state_BS=prefix.state_BS
        )

    def velocity(self, context: ExpertContext, *, noisy_BHA: Tensor, time_BX: Tensor) -> Tensor:
        """Return the flow velocity of noisy chunks, [B, H, A]; times are [B, 1], or [B, H] where actions differ in theirs."""
        return self.expert(noisy_BHA, time_BX=time_BX, context=context)

    def continuation(self, prefix: Prefix, token_BF: Tensor) -> Tensor:
        """Return the backbone's stream over tokens that follow the prefix causally, [B, F, W].

        The expert does not attend to them: its context is the prefix alone. Padding belongs at the end.
        """
        return self.say(prefix, token_BF)[0]

    def say(self, seen: Prefix | Said, token_BF: Tensor) -> tuple[Tensor, Said]:
        """Return the stream over further tokens, [B, F, W], and what the next ones attend to; each token is read once."""
        length = token_BF.shape[1]
        # Blocks 0 and 1 are the prefix; every token is a block of its own.
        blocks_F = torch.arange(2, 2 + length, device=token_BF.device)
        has_token_BT = F.pad(seen.has_token_BT, (0, length), value=True)
        allowed_BFK = attention_mask(
            query_blocks_Q=blocks_F,
            key_blocks_K=F.pad(blocks_F, (seen.has_token_BT.shape[1], 0)),
            key_valid_BK=has_token_BT,
        )
        positions_BF = seen.has_token_BT.sum(dim=1, keepdim=True) + torch.arange(length, device=token_BF.device)
        stream_BFW, offered = self.backbone.extend(
            self._embed_text(token_BF),
            rotations=self.backbone.rotations(positions_BF),
            mask_B1TC=additive(allowed_BFK),
            context=seen.offered,
        )
        return stream_BFW, Said(offered=offered, has_token_BT=has_token_BT)

    def logits(self, stream_W: Tensor) -> Tensor:
        """Return the next token's logits, [..., V], from a continuation's stream, [..., W]."""
        return F.linear(stream_W, self.text_embedding.weight) if self.text_head is None else self.text_head(stream_W)

    def features(self, prefix: Prefix) -> Tensor:
        """Return one vector per observation for a value function, float32 [B, config.feature_dim].

        Means over each camera's tokens and over the prompt, and the state token, of the stream that enters the last layer: what
        the policy acts on, and independent of the indicator. Missing cameras give zeros.
        """
        lengths = [self.config.vision.num_tokens] * len(self.config.cameras)
        num_state_tokens = int(self.state_in is not None)
        num_prompt_tokens = prefix.has_token_BT.shape[1] - sum(lengths) - num_state_tokens - prefix.num_indicator_tokens
        lengths += [num_prompt_tokens] + [1] * num_state_tokens
        stream_BTW = F.rms_norm(prefix.stream_BTW.float(), prefix.stream_BTW.shape[-1:])
        kept_BT1 = prefix.has_token_BT[..., None].float()
        pooled = []
        start = 0
        for length in lengths:
            kept = kept_BT1[:, start : start + length]
            total_BW = (stream_BTW[:, start : start + length] * kept).sum(dim=1)
            pooled.append(total_BW / kept.sum(dim=1).clamp_min(1.0))
            start += length
        return torch.cat(pooled, dim=-1)

    def embed_observation(self, inputs: PrefixInputs) -> tuple[Tensor, Tensor]:
        """Return tokens [B, T, W] of images, prompt and state, and which of them are no padding."""
        tokens_BCPW = self._look(inputs)
        if self.camera_embedding is not None:
            tokens_BCPW = tokens_BCPW + self.camera_embedding.weight[:, None]
        num_image_tokens = tokens_BCPW.shape[2]
        parts = [tokens_BCPW.flatten(1, 2), self._embed_text(inputs.prompt_BP)]
        has_token = [inputs.has_camera_BC.repeat_interleave(num_image_tokens, dim=1), inputs.has_prompt_BP]
        if self.state_in is not None:
            parts.append(self.state_in(inputs.state_BS)[:, None])
            has_token.append(inputs.has_state_B[:, None])
        return torch.cat(parts, dim=1), torch.cat(has_token, dim=1)

    def _look(self, inputs: PrefixInputs) -> Tensor:
        """Return the image tokens, [B, C, P, W]; in training the tower sees present cameras only, missing ones give zeros.

        When serving it sees all of them, so that what a request lacks changes no shape and no bit of another's answer.
        """
        images_MYX3, has_camera_M = inputs.images_BCYX3.flatten(0, 1), inputs.has_camera_BC.flatten()
        if not self.training or has_camera_M.all():
            return self.vision(scaled_pixels(images_MYX3)).unflatten(0, inputs.has_camera_BC.shape)
        seen_NPW = self.vision(scaled_pixels(images_MYX3[has_camera_M]))
        tokens_MPW = seen_NPW.new_zeros((len(images_MYX3), *seen_NPW.shape[1:]))
        return tokens_MPW.masked_scatter(has_camera_M[:, None, None], seen_NPW).unflatten(0, inputs.has_camera_BC.shape)

    def _embed_text(self, token_BF: Tensor) -> Tensor:
        """Return embedded tokens, float32; scaled as Gemma does, they have unit size per dimension."""
        embedded_BFW = self.text_embedding(token_BF).float()
        return embedded_BFW * math.sqrt(self.text_embedding.embedding_dim) if self.config.has_scaled_words else embedded_BFW
