"""Merging many words at once gives the tokens of the library that merges one pair after another."""

from __future__ import annotations

import numpy as np
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import models

from opentau.policies.pair_merging import PairMerging

LETTERS = "abcd"
# (ab, c) and (a, bc) give one token twice, and a merge of it ranks between them.
TWICE = [("b", "c"), ("a", "b"), ("ab", "c"), ("abc", "d"), ("a", "bc"), ("a", "a"), ("aa", "a")]


@st.composite
def merge_lists(draw) -> list[tuple[str, str]]:
    """Pairs of tokens that exist by then, in any order that training could have learned them, and some that it could not."""
    tokens, merges = list(LETTERS), []
    for _ in range(draw(st.integers(1, 25))):
        pair = (draw(st.sampled_from(tokens)), draw(st.sampled_from(tokens)))
        if pair not in merges:
            merges.append(pair)
            tokens.append("".join(pair))
    return merges


def vocabulary_of(merges: list[tuple[str, str]]) -> dict[str, int]:
    return {token: index for index, token in enumerate(dict.fromkeys([*LETTERS, *("".join(pair) for pair in merges)]))}


@settings(max_examples=300, deadline=None)
@given(merge_lists(), st.lists(st.text(LETTERS, min_size=1, max_size=40), min_size=1, max_size=12))
@example(TWICE, ["abcd", "aabcd", "aaaaaaa", "abcabcdbcd"])
def test_words_merge_into_the_tokens_of_the_library(merges, words):
    vocabulary = vocabulary_of(merges)
    library = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    symbols = np.array([vocabulary[letter] for word in words for letter in word])
    is_first = np.array([index == 0 for word in words for index in range(len(word))])
    tokens = PairMerging(vocabulary, merges)(symbols, is_first_L=is_first)
    ends = np.cumsum([len(word) for word in words])[:-1]
    merged = [part[part >= 0].tolist() for part in np.split(tokens, ends)]
    assert merged == [library.encode(word).ids for word in words]


def test_no_words_are_no_tokens():
    assert not len(PairMerging({"a": 0}, [])(np.zeros(0, np.int64), is_first_L=np.zeros(0, bool)))


def test_a_vocabulary_without_merges_leaves_the_symbols():
    tokens = PairMerging({"a": 0, "b": 1}, [])(np.array([0, 1, 1]), is_first_L=np.array([True, False, False]))
    assert tokens.tolist() == [0, 1, 1]
