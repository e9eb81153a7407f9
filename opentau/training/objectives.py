"""What a policy is trained for: flow matching, action tokens, and how the advantage indicator enters both."""

# Shapes: B batch (in the flow loss times the noise draws), H actions of a chunk, A action dimensions, X flow times of a chunk
# (1 or H), M samples with action tokens, F action tokens, N tokens to be said, V vocabulary, W width.

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from opentau.data.batches import Batch
from opentau.errors import OptionError
from opentau.models.flow import noisy_action, sample_time, target_velocity
from opentau.policies.inputs import PrefixInputs, SpokenInputs
from opentau.policies.processor import Processor
from opentau.policies.vla import VLA, Prefix
from opentau.training.options import ObjectiveOptions


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

    def __call__(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, and its parts by metric name: train/flow, train/fast and train/text, as far as they are trained.

        Each part is a mean over the samples that it belongs to: questions train what is said, all others the actions.
        """
        options = self._options
        inputs = self.inputs(batch)
        is_withheld_B = torch.rand(len(inputs)).lt(options.indicator_dropout).to(inputs.indicator_B.device)
        inputs = self.processor.with_indicator(inputs, inputs.indicator_B.masked_fill(is_withheld_B, -1))
        prefix = self.model.prefix(inputs)
        loss = torch.zeros((), device=inputs.state_BS.device)
        metrics: dict[str, Tensor] = {}
        if options.text_weight and (text := self.processor.text_inputs(batch.answer)):
            metrics["train/text"] = self._spoken_loss(prefix, text, weight_B=torch.ones(len(batch), device=loss.device))
            loss = loss + options.text_weight * metrics["train/text"]
        acting = np.flatnonzero(~batch.is_question)
        if len(acting) < len(batch):
            batch, prefix = batch.rows(acting), prefix.rows(torch.from_numpy(acting).to(loss.device))
        if not len(batch):
            return loss, {name: value.detach() for name, value in metrics.items()}
        weight_B = torch.from_numpy(batch.weight).to(loss.device)
        if options.fast_weight:
            fast = self.processor.fast_inputs(batch.action, is_pad_BH=batch.action_is_pad)
            metrics["train/fast"] = self._spoken_loss(prefix, fast, weight_B=weight_B)
            loss = loss + options.fast_weight * metrics["train/fast"]
        if options.flow_weight:
            seen = prefix.detached() if options.is_insulated else prefix
            metrics["train/flow"] = (self._flow_loss(seen, batch, generator=None) * weight_B).mean()
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
            generator = torch.Generator().manual_seed(seed)
            losses.append(self._flow_loss(prefix, batch, generator=generator)[has_indicator_B].mean())
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

    def _flow_loss(self, prefix: Prefix, batch: Batch, *, generator: torch.Generator | None) -> Tensor:
        """Return each sample's squared velocity error, float32 [B]: the mean over draws, actions that count, and dimensions."""
        draws = self._options.num_noise_draws
        action_BHA = torch.from_numpy(batch.action).repeat_interleave(draws, dim=0)
        counts_BH = torch.from_numpy(~batch.action_is_pad).repeat_interleave(draws, dim=0)
        batch_size, horizon, _ = action_BHA.shape
        noise_BHA = torch.randn(action_BHA.shape, generator=generator)
        time_BX = sample_time((batch_size, 1), generator=generator)
        if self.model.config.max_committed:
            delay_B1 = torch.randint(self.model.config.max_committed + 1, (batch_size, 1), generator=generator)
            is_committed_BH = torch.arange(horizon) < delay_B1
            time_BX = time_BX.masked_fill(is_committed_BH, 0.0)
            counts_BH = counts_BH & ~is_committed_BH
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

    def _spoken_loss(self, prefix: Prefix, said: SpokenInputs | None, *, weight_B: Tensor) -> Tensor:
        """Return the mean weighted cross-entropy of what is said; 0 where no sample of the batch says anything."""
        if said is None:
            return torch.zeros((), device=self._device)
        whole = prefix if len(said.row_M) == len(prefix.state_BS) else prefix.rows(said.row_M.to(self._device))
        stream_MFW = self.model.continuation(whole, said.token_MF.to(self._device))
        is_target_MF = said.is_target_MF.to(self._device)
        logits_NV = self.model.logits(stream_MFW[is_target_MF])
        loss_N = F.cross_entropy(logits_NV.float(), said.target_MF.to(self._device)[is_target_MF], reduction="none")
        weight_MF = weight_B[said.row_M.to(self._device)][:, None].expand(is_target_MF.shape)
        return (loss_N * weight_MF[is_target_MF]).mean()
