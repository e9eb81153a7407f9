"""The text tokenizer of a published model, as it comes with the weights: PaliGemma's, or SmolLM2's for `small`."""

from __future__ import annotations

from collections.abc import Sequence

import tokenizers

from opentau.errors import CheckpointError
from opentau.policies.config import PolicyConfig, Words
from opentau.policies.text_tokenizer import TextTokenizer

MARKERS = (("<pad>", "<bos>", "<eos>"), ("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
"""Padding, begin and end of a text, as PaliGemma and as SmolLM2 write them."""
LINE_BREAK = "\n"


class PublishedTokenizer:
    """Text to ids and back by a Hugging Face `tokenizer.json`; it tells case, spaces and locations apart by itself.

    A sequence of action tokens is opened by the begin of a text, an answer by a line break, which is what parts PaliGemma's
    questions from its answers. Locations are single tokens to PaliGemma, and characters to SmolLM2.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        # A prompt that happens to hold '<eos>' says five characters, not a marker.
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self.pad_id, self.bos_id, self.eos_id = self._markers()
        self.action_id = self.bos_id
        self.answer_id = self.encode(LINE_BREAK)[-1]

    @classmethod
    def from_json(cls, text: str) -> PublishedTokenizer:
        """Build from a `tokenizer.json`; one that cannot be read raises `CheckpointError`."""
        # The library raises bare Exception for anything it cannot read.
        try:
            tokenizer = tokenizers.Tokenizer.from_str(text)
        except Exception as error:
            raise CheckpointError(f"the text tokenizer cannot be read: {error}. Fetch its tokenizer.json again.") from error
        return cls(tokenizer)

    def to_json(self) -> str:
        return self._tokenizer.to_str()

    @property
    def vocab_size(self) -> int:
        """Ids that can occur: one more than the largest."""
        return 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values())

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without special tokens."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids; special tokens are left out."""
        return str(self._tokenizer.decode(list(ids))).strip()

    def _markers(self) -> list[int]:
        """Return the ids of padding, begin and end."""
        for names in MARKERS:
            ids = [found for name in names if (found := self._tokenizer.token_to_id(name)) is not None]
            if len(ids) == len(names):
                return ids
        known = ", or ".join(" ".join(names) for names in MARKERS)
        raise CheckpointError(f"the text tokenizer lacks the tokens {known}; give the one that belongs to the weights")


def read_tokenizer(text: str, *, config: PolicyConfig) -> TextTokenizer | PublishedTokenizer:
    """Return the tokenizer that goes with a policy, from its file's text; a damaged one raises `CheckpointError`."""
    if config.words is Words.PUBLISHED:
        return PublishedTokenizer.from_json(text)
    return TextTokenizer.from_json(text, num_locations=config.num_locations)
