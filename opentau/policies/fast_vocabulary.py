"""The byte-pair vocabulary of an action tokenizer: characters, one per rounded coefficient, to token ids and back.

Two kinds are known. Where the tokenizer splits nothing beforehand, a character is a symbol: ours are fitted like that. The
published ones are byte-level: symbols are the bytes of UTF-8, and no token reaches across the words that the splitting rule of
GPT-2 sees, for which coefficients are letters, digits, white space or something else, as their number wants it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from tokenizers import pre_tokenizers

from opentau.errors import CheckpointError
from opentau.policies.pair_merging import MAX_TOKENS, PairMerging

# Shapes: N chunks, K characters of a chunk, P characters that the vocabulary can spell, S symbols of the longest of them,
# L symbols of all chunks together.

BLOCK = 128
"""Chunks that are worked on together: what they need stays in the processor's cache."""
LETTER, NUMBER, OTHER, SPACE = range(4)
BYTE_CHARACTERS = 0x800
"""Characters of at most two bytes are spelled in a byte-level vocabulary; coefficients are not as large as those beyond."""
CONTRACTIONS = ("s", "t", "re", "ve", "m", "ll", "d")
PLAIN_MODEL = (
    "dropout",
    "unk_token",
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "byte_fallback",
    "ignore_merges",
)
"""What a model must not have set, for its tokens to be those of the merges alone."""


class FastVocabulary:
    """Read from the content of a `tokenizer.json`; what cannot be followed exactly raises `CheckpointError`."""

    def __init__(self, plain: Mapping[str, Any]) -> None:
        model, splitting = plain["model"], plain.get("pre_tokenizer")
        self.plain = plain
        self.is_byte_level = splitting is not None
        self._splits_words = splitting is not None and bool(splitting.get("use_regex", True))
        if set_options := [name for name in PLAIN_MODEL if model.get(name)]:
            raise CheckpointError(f"the vocabulary's model sets {', '.join(set_options)}; plain byte-pair encoding is read")
        if model.get("type") != "BPE" or plain.get("normalizer") is not None:
            raise CheckpointError(
                f"the vocabulary is a {model.get('type')} model with the normalizer {plain.get('normalizer')}; "
                "BPE without one is read"
            )
        if splitting is not None and (splitting.get("type") != "ByteLevel" or splitting.get("add_prefix_space")):
            raise CheckpointError(f"the vocabulary splits text by {splitting}; none or ByteLevel without prefix space is read")
        self._ids: dict[str, int] = model["vocab"]
        self._merges = [_pair(merge) for merge in model["merges"]]
        # Added tokens have an id, but spell nothing.
        added = {token["id"] for token in plain.get("added_tokens") or ()}
        self._check_ids(added)
        self.num_tokens = 1 + max([*self._ids.values(), *added])
        byte_of = _byte_of_character() if self.is_byte_level else {}
        self._spelled = {index: _spelled(token, byte_of) for token, index in self._ids.items() if index not in added}
        self._character_P, self._symbol_PS = self._spelling(byte_of)
        middles = (self._character_P[1:] + self._character_P[:-1]) // 2
        self._nearest = np.searchsorted(middles, np.arange(self._character_P[0], self._character_P[-1] + 1))

    def _check_ids(self, added: set[int]) -> None:
        ids = [*self._ids.values(), *added]
        if not self._ids or any(not isinstance(index, int) or not 0 <= index < MAX_TOKENS for index in ids):
            raise CheckpointError(f"the vocabulary has {len(ids)} ids, {ids[:3]} …; they must be integers below {MAX_TOKENS}")
        if len(set(self._ids.values())) < len(self._ids):
            raise CheckpointError("the vocabulary gives one id to several tokens")
        parts = {text for left, right in self._merges for text in (left, right, left + right)}
        if missing := sorted(parts - self._ids.keys())[:3]:
            raise CheckpointError(f"the merges of the vocabulary need the tokens {missing}, which have no id")
        if len(self._merges) >= MAX_TOKENS:
            raise CheckpointError(f"the vocabulary has {len(self._merges)} merges; it must be fewer than {MAX_TOKENS}")

    @property
    def characters(self) -> np.ndarray:
        """Code points of the characters that can be spelled, int64 [P], ascending."""
        return self._character_P

    def encode(self, character_NK: np.ndarray) -> list[list[int]]:
        """Return the ids of rows of code points; a character that cannot be spelled becomes the nearest one that can."""
        ids: list[list[int]] = []
        for first in range(0, len(character_NK), BLOCK):
            ids += self._encode(character_NK[first : first + BLOCK])
        return ids

    def decode(self, ids: Sequence[int]) -> str | None:
        """Return the characters, or None for ids that are none of the vocabulary's or leave a character unfinished."""
        try:
            return b"".join(map(self._spelled.__getitem__, ids)).decode()
        except (KeyError, UnicodeDecodeError):
            return None

    def _encode(self, character_NK: np.ndarray) -> list[list[int]]:
        offset_NK = np.clip(character_NK - self._character_P[0], 0, len(self._nearest) - 1)
        index_NK = self._nearest[offset_NK]
        symbol_NKS = self._symbol_PS[index_NK]
        is_first_NKS = np.zeros(symbol_NKS.shape, bool)
        is_first_NKS[:, :, 0] = self._word_starts(index_NK)
        is_symbol_NKS = symbol_NKS >= 0
        token_L = self._merging(symbol_NKS[is_symbol_NKS], is_first_L=is_first_NKS[is_symbol_NKS])
        is_token_L = token_L >= 0
        last_N = np.cumsum(is_symbol_NKS.sum(axis=(1, 2))) - 1
        ends = np.cumsum(is_token_L)[last_N].tolist()
        ids = token_L[is_token_L].tolist()
        return [ids[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    def _word_starts(self, index_NK: np.ndarray) -> np.ndarray:
        """Return bool [N, K], which characters begin a word that no token reaches into or out of."""
        starts_NK = np.zeros(index_NK.shape, bool)
        starts_NK[:, 0] = True
        if not self._splits_words:
            return starts_NK
        kind_NK = self._kind_P[index_NK]
        starts_NK[:, 1:] = kind_NK[:, 1:] != kind_NK[:, :-1]
        is_space_NK = kind_NK == SPACE
        if is_space_NK.any():
            # The last of several spaces is apart from those before it, and a blank belongs to the word that it precedes.
            is_last_NK = is_space_NK[:, :-1] & ~is_space_NK[:, 1:]
            starts_NK[:, :-1] |= is_last_NK
            starts_NK[:, 1:] &= ~(is_last_NK & (self._character_P[index_NK[:, :-1]] == ord(" ")))
        for row, column in zip(*np.nonzero(starts_NK & (self._character_P[index_NK] == ord("'"))), strict=True):
            following = "".join(map(chr, self._character_P[index_NK[row, column + 1 : column + 3]]))
            for ending in filter(following.startswith, CONTRACTIONS):
                starts_NK[row, column + 1 : column + 1 + len(ending)] = False
                starts_NK[row, column + 1 + len(ending) : column + 2 + len(ending)] = True
        return starts_NK

    @cached_property
    def _merging(self) -> PairMerging:
        return PairMerging(self._ids, self._merges)

    @cached_property
    def _kind_P(self) -> np.ndarray:
        """Return of each character what it is to the splitting rule, asking the library: kinds stick to their own kind."""
        split = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str
        probes = {LETTER: "a", NUMBER: "1", OTHER: "!"}
        return np.array(
            [
                next((kind for kind, probe in probes.items() if len(split(probe + chr(point))) == 1), SPACE)
                for point in self._character_P
            ],
            dtype=np.uint8,
        )

    def _spelling(self, byte_of: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the code points of the characters that can be spelled, ascending, and their symbols, -1 after the last."""
        if self.is_byte_level:
            symbol_of = {byte_of[token]: index for token, index in self._ids.items() if token in byte_of}
            encoded = {point: chr(point).encode() for point in range(BYTE_CHARACTERS)}
            spelling = {point: [symbol_of.get(byte, -1) for byte in text] for point, text in encoded.items()}
        else:
            spelling = {ord(token): [index] for token, index in self._ids.items() if len(token) == 1}
        known = sorted((point, symbols) for point, symbols in spelling.items() if min(symbols) >= 0)
        if not known:
            raise CheckpointError("the vocabulary has no single characters; it cannot spell coefficients")
        length = max(len(symbols) for _, symbols in known)
        padded = [symbols + [-1] * (length - len(symbols)) for _, symbols in known]
        return np.array([point for point, _ in known], dtype=np.int64), np.array(padded, dtype=np.int64)


def _pair(merge: str | list[str]) -> tuple[str, str]:
    """Return the two tokens of a merge, which older files write with a blank between them."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _byte_of_character() -> dict[str, int]:
    """Return the printable characters that stand for bytes: visible ones for themselves, the others from U+0100 on."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = sorted(set(range(256)) - set(visible))
    return {chr(byte): byte for byte in visible} | {chr(0x100 + rank): byte for rank, byte in enumerate(others)}


def _spelled(token: str, byte_of: Mapping[str, int]) -> bytes:
    """Return a token's share of the text in UTF-8. Tokens with a character that stands for no byte are text as they are."""
    if byte_of and all(character in byte_of for character in token):
        return bytes(byte_of[character] for character in token)
    return token.encode()
