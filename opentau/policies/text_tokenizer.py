"""The text tokenizer that ships with the project: byte-level BPE over instruction-like sentences."""

from __future__ import annotations

from functools import cache
from importlib import resources

import tokenizers

from opentau.errors import CheckpointError

SHIPPED = "text_tokenizer.json"
PAD, BOS, EOS, ACTION = "<pad>", "<bos>", "<eos>", "<action>"
NUM_RESERVED = 28
SPECIAL_TOKENS = (PAD, BOS, EOS, ACTION, *(f"<reserved_{index}>" for index in range(NUM_RESERVED)))
"""Ids 0, 1, 2, …; <action> opens a sequence of action tokens, the reserved ones are free for later kinds of text."""


class TextTokenizer:
    """Sentences to ids and back; case, underscores and extra spaces do not matter, and no text is out of vocabulary."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        for index, token in enumerate(SPECIAL_TOKENS):
            if tokenizer.token_to_id(token) != index:
                raise CheckpointError(
                    f"the text tokenizer has id {tokenizer.token_to_id(token)} for {token}, expected {index}; "
                    "it was not made by opentau.policies.build_text_tokenizer"
                )
        self.pad_id, self.bos_id, self.eos_id, self.action_id = range(4)

    @classmethod
    def shipped(cls) -> TextTokenizer:
        """Return the tokenizer that is part of the package."""
        return cls.from_json(_shipped_json())

    @classmethod
    def from_json(cls, text: str) -> TextTokenizer:
        """Build from `to_json`; damaged text raises `CheckpointError`."""
        # The library raises bare Exception for anything it cannot read.
        try:
            tokenizer = tokenizers.Tokenizer.from_str(text)
        except Exception as error:
            raise CheckpointError(f"the text tokenizer cannot be read: {error}. Fetch the checkpoint again.") from error
        return cls(tokenizer)

    def to_json(self) -> str:
        return self._tokenizer.to_str(pretty=True)

    @property
    def vocab_size(self) -> int:
        return self._tokenizer.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without special tokens."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        """Return the normalised text of ids; special tokens are left out."""
        return self._tokenizer.decode(ids).strip()


@cache
def _shipped_json() -> str:
    return resources.files("opentau.policies").joinpath(SHIPPED).read_text(encoding="utf-8")
