"""What a policy reads in words: the prompt template, the state where it is text, and the indicator."""

# Shapes: B batch, V wordings of a prompt, P prompt tokens, S state dimensions, I indicator tokens.

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from opentau.errors import OptionError
from opentau.policies.config import IndicatorPlace, PolicyConfig, StateInput
from opentau.policies.published_tokenizer import PublishedTokenizer
from opentau.policies.text_tokenizer import TextTokenizer
from opentau.types import Indicator

END_OF_TEXT = "<eos>"
"""In a prompt template, the token that ends a text, as later versions of TensorAuto OpenTau part task, state and actions."""
INDICATOR_TEXT = {Indicator.NEGATIVE: "Advantage: negative", Indicator.POSITIVE: "Advantage: positive"}


class PromptWriter:
    """Prompts, states and indicators to padded token ids."""

    def __init__(self, config: PolicyConfig, text_tokenizer: TextTokenizer | PublishedTokenizer) -> None:
        self._config = config
        self._text_tokenizer = text_tokenizer
        self._is_told_in_prompt = config.has_indicator_text and config.indicator_place is IndicatorPlace.PROMPT
        self._template = config.prompt_template.split(END_OF_TEXT)
        self._prompt_ids: dict[tuple[str, ...], list[int]] = {}

    def indicator_ids(self) -> Tensor:
        """Return the texts of the negative and the positive indicator, int64 [2, I]; I = 0 where they are no block."""
        has_block = self._config.has_indicator_text and not self._is_told_in_prompt
        texts = [self._text_tokenizer.encode(INDICATOR_TEXT[Indicator(value)]) for value in (0, 1)]
        length = max(map(len, texts)) if has_block else 0
        return torch.tensor([(text + [self._text_tokenizer.pad_id] * length)[:length] for text in texts], dtype=torch.int64)

    def prompts(
        self, prompts: Sequence[str], *, states: Sequence[np.ndarray], is_question_B: np.ndarray
    ) -> tuple[Tensor, Tensor]:
        """Return padded token ids [B, V, P] and which of them are none.

        V is 3, the prompt under `Indicator` -1, 0 and 1, where the indicator is part of it, and else 1. Questions are read as
        they are; a prompt that is too long raises `OptionError`.
        """
        indicators = list(Indicator) if self._is_told_in_prompt else [Indicator.ABSENT]
        shape = (len(prompts), len(indicators), self._config.max_prompt_tokens)
        prompt_BVP = torch.full(shape, self._text_tokenizer.pad_id)
        has_prompt_BVP = torch.zeros(shape, dtype=torch.bool)
        for row, (prompt, state_S, is_question) in enumerate(zip(prompts, states, is_question_B, strict=True)):
            for column, indicator in enumerate(indicators):
                ids = self._ids((prompt,) if is_question else self._filled(prompt, state_S, indicator))
                prompt_BVP[row, column, : len(ids)] = torch.tensor(ids)
                has_prompt_BVP[row, column, : len(ids)] = True
        return prompt_BVP, has_prompt_BVP

    def fits(self, prompt: str) -> bool:
        """Return whether a prompt whose state is no text is short enough, whatever the indicator."""
        longest = max(Indicator, key=lambda indicator: len(INDICATOR_TEXT.get(indicator, "")))
        return len(self._encoded(self._filled(prompt, np.zeros(0), longest))) <= self._config.max_prompt_tokens

    def _filled(self, prompt: str, state_S: np.ndarray, indicator: Indicator) -> tuple[str, ...]:
        """Return the template's texts with a prompt on one line, the indicator if it is part of that, the state if it is text.

        What a prompt says is never a marker, even if it spells one.
        """
        said = prompt.strip().replace("_", " ").replace("\n", " ")
        if self._is_told_in_prompt and indicator is not Indicator.ABSENT:
            said = told(said, indicator)
        is_text = self._config.state_input is StateInput.TEXT
        state = " ".join(map(str, state_bins(state_S, config=self._config))) if is_text else ""
        return tuple(text.replace("{prompt}", said).replace("{state}", state) for text in self._template)

    def _encoded(self, texts: tuple[str, ...]) -> list[int]:
        """Return the ids of texts with an end between two of them, and the begin before all."""
        text, ids = self._text_tokenizer, [self._text_tokenizer.bos_id]
        for number, piece in enumerate(texts):
            ids += [text.eos_id] * bool(number) + text.encode(piece)
        return ids

    def _ids(self, texts: tuple[str, ...]) -> list[int]:
        if texts in self._prompt_ids:
            return self._prompt_ids[texts]
        ids = self._encoded(texts)
        if len(ids) > self._config.max_prompt_tokens:
            raise OptionError(
                f"the prompt {END_OF_TEXT.join(texts)!r} has {len(ids)} tokens, the policy reads "
                f"{self._config.max_prompt_tokens}; shorten it, or train a policy that reads more "
                "(+policy.args.max_prompt_tokens=…)"
            )
        if self._config.state_input is not StateInput.TEXT:
            self._prompt_ids[texts] = ids
        return ids


def told(prompt: str, indicator: Indicator) -> str:
    """Return the task under an indicator that is part of it: a plain sentence, with which any server can ask the policy."""
    return f"{prompt}, {INDICATOR_TEXT[indicator]}"


def state_bins(state_S: np.ndarray, *, config: PolicyConfig) -> np.ndarray:
    """Return the bin of each encoded number, [-1, 1] cut into `num_state_bins` equal parts, open above.

    Below lies the first bin as well, or one of number -1.
    """
    bins = np.floor((state_S + 1.0) / 2.0 * config.num_state_bins)
    return np.clip(bins, config.lowest_state_bin, config.num_state_bins - 1).astype(np.int64)
