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

INDICATOR_TEXT = {Indicator.NEGATIVE: "Advantage: negative", Indicator.POSITIVE: "Advantage: positive"}


class PromptWriter:
    """Prompts, states and indicators to padded token ids."""

    def __init__(self, config: PolicyConfig, text_tokenizer: TextTokenizer | PublishedTokenizer) -> None:
        self._config = config
        self._text_tokenizer = text_tokenizer
        self._is_told_in_prompt = config.has_indicator_text and config.indicator_place is IndicatorPlace.PROMPT
        self._prompt_ids: dict[str, list[int]] = {}

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
                ids = self._ids(prompt if is_question else self._filled(prompt, state_S, indicator))
                prompt_BVP[row, column, : len(ids)] = torch.tensor(ids)
                has_prompt_BVP[row, column, : len(ids)] = True
        return prompt_BVP, has_prompt_BVP

    def fits(self, prompt: str) -> bool:
        """Return whether a prompt whose state is no text is short enough, whatever the indicator."""
        longest = max(Indicator, key=lambda indicator: len(INDICATOR_TEXT.get(indicator, "")))
        text = self._filled(prompt, np.zeros(0), longest)
        return len(self._text_tokenizer.encode(text)) < self._config.max_prompt_tokens

    def _filled(self, prompt: str, state_S: np.ndarray, indicator: Indicator) -> str:
        """Return the template with a prompt on one line, the indicator if that is part of it, and the state if that is text."""
        said = prompt.strip().replace("_", " ").replace("\n", " ")
        if self._is_told_in_prompt and indicator is not Indicator.ABSENT:
            said = told(said, indicator)
        text = self._config.prompt_template.replace("{prompt}", said)
        if self._config.state_input is StateInput.TEXT:
            text = text.replace("{state}", " ".join(map(str, state_bins(state_S, config=self._config))))
        return text

    def _ids(self, text: str) -> list[int]:
        if text in self._prompt_ids:
            return self._prompt_ids[text]
        ids = [self._text_tokenizer.bos_id, *self._text_tokenizer.encode(text)]
        if len(ids) > self._config.max_prompt_tokens:
            raise OptionError(
                f"the prompt {text!r} has {len(ids)} tokens, the policy reads {self._config.max_prompt_tokens}; "
                "shorten it, or train a policy that reads more (+policy.args.max_prompt_tokens=…)"
            )
        if self._config.state_input is not StateInput.TEXT:
            self._prompt_ids[text] = ids
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
