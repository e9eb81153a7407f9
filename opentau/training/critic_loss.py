"""What a critic is trained for: the returns of frames and, beside them, answers to questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from opentau.data.batches import Batch
from opentau.data.vlm.samples import QuestionSource
from opentau.errors import OptionError
from opentau.policies.processor import Processor
from opentau.training.distribution import Piece
from opentau.training.objectives import share_of, spoken_loss
from opentau.types import derive_seed
from opentau.value.bins import HIGH, LOW
from opentau.value.critic import Column, Critic
from opentau.value.table import Bootstraps
from opentau.value.vision_language import VisionLanguageFeatures

# Shapes: F frames, B batch.


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticQuestions:
    """Questions that keep a vision-language critic from memorising its episodes (π*0.6, arXiv:2511.14759)."""

    source: QuestionSource
    processor: Processor
    """Reads them as it does for the policy."""
    weight: float
    num_samples: int
    """Of an update."""

    def batch(self, *, seed: int, update: int) -> Batch:
        """Return the questions of an update."""
        rng = np.random.default_rng(derive_seed(seed, "questions", update))
        return self.source.draw(self.num_samples, rng=rng, num_before=update * self.num_samples)


class CriticLoss:
    """The loss of a critic, as the trainer asks for it.

    Frames are drawn uniformly, so that its mean is over the states as they are visited. Drawing by episode would show the first
    frames of short successes more often than those of long failures, which start from the same states, and flatter the value of
    every start.
    """

    def __init__(
        self,
        critic: Critic,
        *,
        inputs: Mapping[str, Column],
        returns: np.ndarray,
        rows: np.ndarray,
        batch_size: int,
        seed: int,
        questions: CriticQuestions | None = None,
        bootstraps: Bootstraps | None = None,
    ) -> None:
        """`returns` float32 [F] are of all frames, `rows` int64 are those to be fitted.

        With `bootstraps` returns hold where those are known; elsewhere the critic's own values a few steps on take their place.
        """
        if questions is not None and not isinstance(critic.features, VisionLanguageFeatures):
            raise OptionError(
                f"value.text_weight is {questions.weight}, but {type(critic.features).__name__} reads no words; "
                "choose value=vlm, or set it 0"
            )
        self._critic, self._inputs, self._returns, self._rows = critic, inputs, returns, rows
        self._batch_size, self._seed, self._questions, self._bootstraps = batch_size, seed, questions, bootstraps

    def __call__(self, update: int, piece: Piece) -> tuple[Tensor, dict[str, Tensor]]:
        """Return a piece's part of the loss, and of value/text where questions are trained on."""
        critic, device = self._critic, next(self._critic.parameters()).device
        rng = np.random.default_rng(derive_seed(self._seed, "batch", update))
        drawn = self._rows[rng.integers(0, len(self._rows), size=self._batch_size)]
        chosen = drawn[piece.rows(len(drawn))]
        loss = critic.loss(self._seen(chosen, device), self._targets(chosen, device)) * (len(chosen) / len(drawn))
        if self._questions is None:
            return loss, {}
        text = self._text_loss(self._questions, update, piece)
        return loss + self._questions.weight * text, {"text": text.detach()}

    def _seen(self, rows: np.ndarray, device: torch.device) -> dict[str, Tensor]:
        return {name: torch.from_numpy(self._inputs[name][rows]).to(device) for name in self._critic.config.inputs}

    def _targets(self, rows: np.ndarray, device: torch.device) -> Tensor:
        """Return what the values of frames, rows int64 [B], are fitted to, float32 [B].

        These are their returns, or n-step returns from the critic as it is, through which no gradient goes (Sutton and Barto
        2018, "Reinforcement Learning", section 9.4).
        """
        returns_B = torch.from_numpy(self._returns[rows]).to(device)
        ahead = self._bootstraps
        if ahead is None:
            return returns_B
        was_training = self._critic.training
        self._critic.eval()
        with torch.no_grad():
            ahead_B = self._critic.value(self._seen(ahead.row[rows], device))
        self._critic.train(was_training)
        paid_B, is_known_B = (torch.from_numpy(each[rows]).to(device) for each in (ahead.paid, ahead.is_known))
        return torch.where(is_known_B, returns_B, (ahead_B - paid_B).clamp(LOW, HIGH))

    def _text_loss(self, questions: CriticQuestions, update: int, piece: Piece) -> Tensor:
        model, processor = self._critic.features, questions.processor
        assert isinstance(model, VisionLanguageFeatures)
        whole = questions.batch(seed=self._seed, update=update)
        batch = whole.rows(np.arange(len(whole))[piece.rows(len(whole))])
        device = model.text_embedding.weight.device
        if not len(batch):
            return torch.zeros((), device=device)
        inputs = processor.prefix_inputs(
            images=batch.images,
            prompts=batch.prompt,
            state_BS=batch.state,
            indicator_B=batch.indicator,
            has_camera=batch.has_camera,
            is_question_B=batch.is_question,
        )
        said = processor.text_inputs(batch.answer)
        prefix = model.prefix(replace(inputs, indicator_BI=inputs.indicator_BI[:, :0]).to(device))
        text = spoken_loss(model, prefix, said, weight_B=torch.ones(len(batch), device=device))
        return text * share_of(said, processor.text_inputs(whole.answer))
