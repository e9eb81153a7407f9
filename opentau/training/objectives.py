"""What a policy is trained for: flow matching, action tokens, and how the advantage indicator enters both."""

# Shapes: B batch (in the flow loss times the noise draws), H actions of a chunk, A action dimensions, X flow times of a chunk
# (1 or H), M samples with action tokens, F action tokens, N tokens to be said, V vocabulary, W width.

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from opentau.data.batches import Batch
from opentau.errors import OptionError
from opentau.models.flow import noisy_action, sample_time, target_velocity
from opentau.policies.inputs import PrefixInputs, SpokenInputs
from opentau.policies.prefix import Prefix
from opentau.policies.processor import Processor
from opentau.policies.vla import VLA
from opentau.training.distribution import WHOLE, Piece
from opentau.training.options import ObjectiveOptions


class Speaker(Protocol):
    """A model that says words after a prefix."""

    def continuation(self, prefix: Prefix, token_BF: Tensor) -> Tensor:
        """Return the stream over words that follow, [B, F, W]."""
        ...

    def logits(self, stream_W: Tensor) -> Tensor:
        """Return the next word's logits, [..., V]."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowDraws:
    """What is drawn for the flow loss: of each sample several chunks side by side."""

    noise_BHA: Tensor
    time_BX: Tensor
    is_committed_BH: Tensor | None
    """The clean prefix of each chunk; None for policies that know none."""
    num_per_sample: int

    def samples(self, first: int, count: int) -> FlowDraws:
        """Return the draws of some samples in a row."""
        rows = slice(first * self.num_per_sample, (first + count) * self.num_per_sample)
        is_committed_BH = None if self.is_committed_BH is None else self.is_committed_BH[rows]
        return replace(self, noise_BHA=self.noise_BHA[rows], time_BX=self.time_BX[rows], is_committed_BH=is_committed_BH)


class PolicyObjective:
    """The loss of a `VLA` on a batch; every draw comes from torch's global generator, which the trainer seeds per update."""

    def __init__(self, model: VLA, *, processor: Processor, options: ObjectiveOptions) -> None:
        if options.fast_weight and processor.fast_tokenizer is None:
            raise OptionError(
                f"fast_weight is {options.fast_weight}, but the policy has no action tokenizer; fit one, or set it 0"
            )
        self.model = model
        self.processor = processor
        self._options = options

    def __call__(self, batch: Batch, piece: Piece = WHOLE) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, and its parts by metric name: train/flow, train/fast and train/text, as far as they are trained.

        Each part is a mean over the samples that it belongs to: questions train what is said, all others the actions. Of a
        piece of the batch it is the piece's share of that mean, under the draws of the whole; only the model's own dropout
        is drawn for each piece by itself.
        """
        options, whole, kept = self._options, batch, piece.rows(len(batch))
        batch = whole if piece.count == 1 else whole.rows(np.arange(len(whole))[kept])
        inputs = self.inputs(batch)
        is_withheld_B = torch.rand(len(whole))[kept].lt(options.indicator_dropout).to(inputs.indicator_B.device)
        inputs = self.processor.with_indicator(inputs, inputs.indicator_B.masked_fill(is_withheld_B, -1))
        prefix = self.model.prefix(inputs)
        loss = torch.zeros((), device=inputs.state_BS.device)
        metrics: dict[str, Tensor] = {}
        if options.text_weight and (all_text := self.processor.text_inputs(whole.answer)):
            text = all_text if batch is whole else self.processor.text_inputs(batch.answer)
            weight_B = torch.ones(len(batch), device=loss.device)
            metrics["train/text"] = spoken_loss(self.model, prefix, text, weight_B=weight_B) * share_of(text, all_text)
            loss = loss + options.text_weight * metrics["train/text"]
        acting = np.flatnonzero(~batch.is_question)
        if len(acting) < len(batch):
            batch, prefix = batch.rows(acting), prefix.rows(torch.from_numpy(acting).to(loss.device))
        is_acting_B = ~whole.is_question
        num_acting = int(is_acting_B.sum())
        if not num_acting:
            return loss, {name: value.detach() for name, value in metrics.items()}
        weight_B = torch.from_numpy(batch.weight).to(loss.device)
        if options.fast_weight:
            fast = all_fast = self.processor.fast_inputs(batch.action, is_pad_BH=batch.action_is_pad)
            if len(batch) < num_acting:
                all_fast = self.processor.fast_inputs(whole.action[is_acting_B], is_pad_BH=whole.action_is_pad[is_acting_B])
            metrics["train/fast"] = spoken_loss(self.model, prefix, fast, weight_B=weight_B) * share_of(fast, all_fast)
            loss = loss + options.fast_weight * metrics["train/fast"]
        if options.flow_weight:
            seen = prefix.detached() if options.is_insulated else prefix
            draws = self._draw(num_acting, like=batch).samples(int(is_acting_B[: kept.start].sum()), len(batch))
            metrics["train/flow"] = torch.zeros((), device=loss.device)
            if len(batch):
                mean = (self._flow_loss(seen, batch, draws) * weight_B).mean()
                metrics["train/flow"] = mean * (len(batch) / num_acting)
            loss = loss + options.flow_weight * metrics["train/flow"]
        return loss, {name: value.detach() for name, value in metrics.items()}

    @torch.no_grad()
    def conditional_losses(self, batch: Batch, *, seed: int = 0) -> tuple[float, float]:
        """Return the flow loss under the right and under the flipped indicator, with the same noise for both.

        Equal losses mean that the policy ignores its indicator. Samples without one do not count; NaN if none has one.
        """
        inputs = self.inputs(batch)
        has_indicator_B = inputs.indicator_B >= 0
        if not has_indicator_B.any():
            return float("nan"), float("nan")
        was_training = self.model.training
        self.model.eval()
        losses = []
        for indicator_B in (inputs.indicator_B, 1 - inputs.indicator_B):
            shown_B = torch.where(has_indicator_B, indicator_B, -1)
            prefix = self.model.prefix(self.processor.with_indicator(inputs, shown_B))
            draws = self._draw(len(batch), like=batch, generator=torch.Generator().manual_seed(seed))
            losses.append(self._flow_loss(prefix, batch, draws)[has_indicator_B].mean())
        self.model.train(was_training)
        return float(losses[0]), float(losses[1])

    def inputs(self, batch: Batch) -> PrefixInputs:
        """Return the tensors that the model reads of a batch, on its device."""
        inputs = self.processor.prefix_inputs(
            images=batch.images,
            prompts=batch.prompt,
            state_BS=batch.state,
            indicator_B=batch.indicator,
            has_camera=batch.has_camera,
            is_question_B=batch.is_question,
            state_dim_B=batch.state_dim,
        )
        return inputs.to(self._device)

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _draw(self, num_samples: int, *, like: Batch, generator: torch.Generator | None = None) -> FlowDraws:
        """Draw for so many samples whose chunks are of the batch's size."""
        num_chunks, (_, horizon, action_dim) = num_samples * self._options.num_noise_draws, like.action.shape
        noise_BHA = torch.randn((num_chunks, horizon, action_dim), generator=generator)
        time_BX = sample_time((num_chunks, 1), generator=generator)
        is_committed_BH = None
        if self.model.config.max_committed:
            delay_B1 = torch.randint(self.model.config.max_committed + 1, (num_chunks, 1), generator=generator)
            is_committed_BH = torch.arange(horizon) < delay_B1
        return FlowDraws(
            noise_BHA=noise_BHA,
            time_BX=time_BX,
            is_committed_BH=is_committed_BH,
            num_per_sample=self._options.num_noise_draws,
        )

    def _flow_loss(self, prefix: Prefix, batch: Batch, drawn: FlowDraws) -> Tensor:
        """Return each sample's squared velocity error, float32 [B]: the mean over draws, actions that count, and dimensions."""
        draws, noise_BHA, time_BX = drawn.num_per_sample, drawn.noise_BHA, drawn.time_BX
        action_BHA = torch.from_numpy(batch.action).repeat_interleave(draws, dim=0)
        counts_BH = torch.from_numpy(~batch.action_is_pad).repeat_interleave(draws, dim=0)
        if drawn.is_committed_BH is not None:
            time_BX = time_BX.masked_fill(drawn.is_committed_BH, 0.0)
            counts_BH = counts_BH & ~drawn.is_committed_BH
        has_dim_B1A = self._has_dim(batch, draws)
        if has_dim_B1A is not None and not self.model.config.has_padding_noise:
            noise_BHA = noise_BHA * has_dim_B1A
        action_BHA, noise_BHA, time_BX, counts_BH = (
            tensor.to(self._device) for tensor in (action_BHA, noise_BHA, time_BX, counts_BH)
        )
        velocity_BHA = self.model.velocity(
            self.model.expert_context(prefix.repeated(draws)),
            noisy_BHA=noisy_action(action_BHA=action_BHA, noise_BHA=noise_BHA, time_BX=time_BX),
            time_BX=time_BX,
        )
        target_BHA = target_velocity(action_BHA=action_BHA, noise_BHA=noise_BHA)
        error_BHA = (velocity_BHA.float() - target_BHA).square()
        if has_dim_B1A is None:
            error_BH = error_BHA.mean(dim=-1)
        else:
            own_B1A = has_dim_B1A.to(self._device)
            error_BH = (error_BHA * own_B1A).sum(dim=-1) / own_B1A.sum(dim=-1)
        mean_B = (error_BH * counts_BH).sum(dim=1) / counts_BH.sum(dim=1).clamp_min(1)
        return mean_B.unflatten(0, (-1, draws)).mean(dim=1)

    @staticmethod
    def _has_dim(batch: Batch, draws: int) -> Tensor | None:
        """Return which action dimensions count, float32 [B, 1, A], or None where all do."""
        if batch.has_action_dim is None or batch.has_action_dim.all():
            return None
        return torch.from_numpy(batch.has_action_dim).float().repeat_interleave(draws, dim=0)[:, None]


def spoken_loss(model: Speaker, prefix: Prefix, said: SpokenInputs | None, *, weight_B: Tensor) -> Tensor:
    """Return the mean weighted cross-entropy of what is said; 0 where no sample of the batch says anything."""
    device = weight_B.device
    if said is None:
        return torch.zeros((), device=device)
    whole = prefix if len(said.row_M) == len(prefix.state_BS) else prefix.rows(said.row_M.to(device))
    stream_MFW = model.continuation(whole, said.token_MF.to(device))
    is_target_MF = said.is_target_MF.to(device)
    logits_NV = model.logits(stream_MFW[is_target_MF])
    loss_N = F.cross_entropy(logits_NV.float(), said.target_MF.to(device)[is_target_MF], reduction="none")
    weight_MF = weight_B[said.row_M.to(device)][:, None].expand(is_target_MF.shape)
    return (loss_N * weight_MF[is_target_MF]).mean()


def share_of(own: SpokenInputs | None, whole: SpokenInputs | None) -> float:
    """Return which share of the tokens to be said is a piece's own."""
    if own is whole or own is None or whole is None:
        return 1.0
    return int(own.is_target_MF.sum()) / int(whole.is_target_MF.sum())
