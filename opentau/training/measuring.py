"""What is measured on held-out data while a policy trains: losses, actions, the indicator's effect, and answers."""

# Shapes: B batch, H actions of a chunk, A action dimensions.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from opentau.data.batches import Batch
from opentau.data.vlm.samples import QuestionSource, VisualSample
from opentau.data.vlm.scoring import score_answers
from opentau.models.flow import integrate
from opentau.policies.answering import answer
from opentau.training.objectives import PolicyObjective
from opentau.types import derive_seed

NUM_BATCHES = 4
NUM_FLOW_STEPS = 5
ANSWER_ROWS = 64
"""Questions answered in one pass."""


class Measurement:
    """Measures a policy in training, always on the same data with the same draws."""

    def __init__(
        self,
        objective: PolicyObjective,
        source: Callable[[int], Batch],
        *,
        has_held_out: bool,
        seed: int,
        others: Mapping[str, Callable[[int], Batch]],
        questions: Mapping[str, tuple[QuestionSource, Sequence[VisualSample]]],
    ) -> None:
        """`others` are batches of further robots' held-out episodes by part, `questions` sources of held-out questions."""
        self._objective = objective
        self._batches = [source(index) for index in range(NUM_BATCHES)]
        self._has_held_out = has_held_out
        self._seed = seed
        self._others = {name: draw(0) for name, draw in others.items()}
        self._questions = dict(questions)

    def __call__(self) -> dict[str, float]:
        """Return metrics by name."""
        measured: dict[str, float] = {}
        if self._has_held_out:
            losses: list[Tensor] = []
            parts: list[Mapping[str, Tensor]] = []
            for batch in self._batches:
                loss, by_name = self._objective(batch)
                losses.append(loss)
                parts.append(by_name)
            measured["train/held_out_loss"] = float(torch.stack(losses).mean())
            errors = [self._action_error(batch, index) for index, batch in enumerate(self._batches)]
            measured["train/held_out_action_error"] = float(np.mean(errors))
            # A batch in which no chunk fits has the loss 0, which says nothing.
            entropies = [part["train/fast"] for part in parts if part.get("train/fast")]
            if entropies:
                measured["train/held_out_fast_perplexity"] = float(torch.stack(entropies).mean().exp())
        measured |= self._indicator_effect()
        for name, batch in self._others.items():
            measured[f"train/held_out_loss/{name}"] = float(self._objective(batch)[0])
        for name, (source, samples) in self._questions.items():
            scores = self._answer_scores(source, samples)
            measured |= {f"train/{metric}/{name}": value for metric, value in scores.items()}
        return measured

    def _indicator_effect(self) -> dict[str, float]:
        """Return the loss under the right indicator, and how much larger it is under the flipped one."""
        pairs = [
            self._objective.conditional_losses(batch, seed=derive_seed(self._seed, "cond_gap", index))
            for index, batch in enumerate(self._batches)
        ]
        right, flipped = np.mean(pairs, axis=0)
        return {"train/cond_loss": float(right), "train/cond_gap": float(flipped - right)} if np.isfinite(right) else {}

    def _action_error(self, batch: Batch, index: int) -> float:
        """Return the mean absolute error of sampled actions that count, in encoded units (the range of most is -1 to 1)."""
        model, inputs = self._objective.model, self._objective.inputs(batch)
        context = model.expert_context(model.prefix(inputs))
        own_BA = np.ones(batch.action.shape[::2], bool) if batch.has_action_dim is None else batch.has_action_dim
        own_B1A = torch.from_numpy(own_BA.astype(np.float32)[:, None]).to(inputs.state_BS.device)
        rng = np.random.default_rng(derive_seed(self._seed, "action_error", index))
        noise_BHA = torch.from_numpy(rng.standard_normal(batch.action.shape, dtype=np.float32)).to(own_B1A.device)
        sampled_BHA = integrate(
            lambda x_BHA, time_BX: model.velocity(context, noisy_BHA=x_BHA, time_BX=time_BX) * own_B1A,
            noise_BHA=noise_BHA * own_B1A,
            num_steps=NUM_FLOW_STEPS,
        )
        error_BHA = np.abs(sampled_BHA.float().cpu().numpy() - batch.action)
        counts_BHA = ~batch.action_is_pad[..., None] & own_BA[:, None]
        return float(error_BHA[counts_BHA].mean())

    def _answer_scores(self, source: QuestionSource, samples: Sequence[VisualSample]) -> dict[str, float]:
        said: list[str] = []
        for start in range(0, len(samples), ANSWER_ROWS):
            rows = np.arange(start, min(start + ANSWER_ROWS, len(samples)))
            batch = source.batch_of(rows, np.random.default_rng(0))
            inputs = self._objective.inputs(batch)
            said += answer(self._objective.model, processor=self._objective.processor, inputs=inputs)
        return score_answers(said, [sample.answer for sample in samples], [sample.kind for sample in samples])
