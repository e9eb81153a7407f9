"""The text tokenizer that ships with the project: byte-level BPE over instruction-like sentences."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from functools import cache
from importlib import resources

import tokenizers

from opentau.errors import CheckpointError, OptionError

SHIPPED = "text_tokenizer.json"
PAD, BOS, EOS, ACTION = "<pad>", "<bos>", "<eos>", "<action>"
NUM_RESERVED = 28
SPECIAL_TOKENS = (PAD, BOS, EOS, ACTION, *(f"<reserved_{index}>" for index in range(NUM_RESERVED)))
"""Ids 0, 1, 2, …; <action> opens a sequence of action tokens, the first reserved one an answer."""
LOCATION = re.compile(r"<loc(\d{4})>")
"""A coordinate as PaliGemma writes it, in 1024ths of the image."""
LOCATION_UNITS = 1024


class TextTokenizer:
    """Sentences to ids and back; case, underscores and extra spaces do not matter, and no text is out of vocabulary.

    With `num_locations` coordinates such as <loc0512> are tokens of their own behind the vocabulary, 1024ths put into that many
    equal bins; without, a text that holds some is refused.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, *, num_locations: int = 0) -> None:
        # A prompt that happens to hold '<pad>' says five characters, not a marker.
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self.num_locations = num_locations
        for index, token in enumerate(SPECIAL_TOKENS):
            if tokenizer.token_to_id(token) != index:
                raise CheckpointError(
                    f"the text tokenizer has id {tokenizer.token_to_id(token)} for {token}, expected {index}; "
                    "it was not made by opentau.policies.build_text_tokenizer"
                )
        self.pad_id, self.bos_id, self.eos_id, self.action_id, self.answer_id = range(5)

    @classmethod
    def shipped(cls, *, num_locations: int = 0) -> TextTokenizer:
        """Return the tokenizer that is part of the package."""
        return cls.from_json(_shipped_json(), num_locations=num_locations)

    @classmethod
    def from_json(cls, text: str, *, num_locations: int = 0) -> TextTokenizer:
        """Build from `to_json`; damaged text raises `CheckpointError`."""
        # The library raises bare Exception for anything it cannot read.
        try:
            tokenizer = tokenizers.Tokenizer.from_str(text)
        except Exception as error:
            raise CheckpointError(f"the text tokenizer cannot be read: {error}. Fetch the checkpoint again.") from error
        return cls(tokenizer, num_locations=num_locations)

    def to_json(self) -> str:
        return self._tokenizer.to_str(pretty=True)

    @property
    def vocab_size(self) -> int:
        """Ids of words and of locations."""
        return self._num_words + self.num_locations

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without special tokens; locations that are no tokens here raise `OptionError`."""
        ids: list[int] = []
        for index, piece in enumerate(LOCATION.split(text)):
            if index % 2:
                ids.append(self._location_id(int(piece), text))
            elif piece.strip():
                ids += self._tokenizer.encode(piece, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the normalised text of ids, locations as the middle of their bin; special tokens are left out."""
        pieces: list[str] = []
        for is_location, group in itertools.groupby(ids, key=lambda token: token >= self._num_words):
            members = list(group)
            if is_location:
                pieces.append("".join(self._location_text(token - self._num_words) for token in members))
            else:
                pieces.append(self._tokenizer.decode(members).strip())
        return " ".join(piece for piece in pieces if piece)

    @property
    def _num_words(self) -> int:
        return self._tokenizer.get_vocab_size()

    def _location_id(self, unit: int, text: str) -> int:
        if not self.num_locations:
            raise OptionError(f"{text!r} holds locations, the policy has no tokens for them; set policy.num_locations")
        return self._num_words + min(unit, LOCATION_UNITS - 1) * self.num_locations // LOCATION_UNITS

    def _location_text(self, number: int) -> str:
        return f"<loc{(2 * number + 1) * LOCATION_UNITS // (2 * self.num_locations):04d}>"


@cache
def _shipped_json() -> str:
    return resources.files("opentau.policies").joinpath(SHIPPED).read_text(encoding="utf-8")
