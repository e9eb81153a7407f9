"""Byte-pair merging of many words at once, in numpy, token for token what the tokenizers library gives.

The library merges the pair of lowest rank (the earliest merge learned), the leftmost of equals, one pair after another. Two
facts let many pairs merge at once. A boundary between two tokens can only be closed by a merge whose left part ends with the
one and whose right part starts with the other; the lowest rank of those is known beforehand. So a pair merges at once when
its rank is below what both its outer boundaries can be closed by, and a boundary that nothing can close cuts a word in two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

# Shapes: R merges, V tokens, L symbols of all words together, shrinking as they merge; boundary k lies left of token k.

MAX_TOKENS = 8192
"""Two tables of two bytes hold a number for each pair of tokens. There are as many merges at most."""
NEVER = np.uint16(0xFFFF)
"""The rank of pairs that do not merge, and of boundaries that nothing closes."""
FEW = 4
"""Where fewer than one token in so many finds its pair, the lowest pair of every piece is looked for too."""


class PairMerging:
    """Symbols of words to tokens."""

    def __init__(self, vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> None:
        """Take the id of each token, below `MAX_TOKENS`, and the pairs of tokens that merge into a third, lowest rank first."""
        num_tokens = max(vocabulary.values()) + 1
        self._merged_R = np.array([vocabulary[left + right] for left, right in merges], dtype=np.int64)
        pairs = [(vocabulary[left], vocabulary[right]) for left, right in merges]
        rank_VV = np.full((num_tokens, num_tokens), NEVER)
        for rank, pair in enumerate(pairs):
            rank_VV[pair] = rank
        # What a token can close, its outermost parts can once they have become that token; longer ones come first.
        closed_VV = rank_VV.copy()
        longest_first = sorted(range(len(merges)), key=lambda rank: -len("".join(merges[rank])))
        for rank in longest_first:
            right, merged = pairs[rank][1], self._merged_R[rank]
            np.minimum(closed_VV[right], closed_VV[merged], out=closed_VV[right])
        closed_VV = np.ascontiguousarray(closed_VV.T)
        for rank in longest_first:
            left, merged = pairs[rank][0], self._merged_R[rank]
            np.minimum(closed_VV[left], closed_VV[merged], out=closed_VV[left])
        self._num_tokens = num_tokens
        self._rank = rank_VV.ravel()
        self._closed = np.ascontiguousarray(closed_VV.T).ravel()

    def __call__(self, symbol_L: np.ndarray, *, is_first_L: np.ndarray) -> np.ndarray:
        """Return int64 [L]: tokens where their first symbol stood, -1 elsewhere. `is_first_L` says where words begin."""
        done_L = np.full(len(symbol_L), -1)
        token_L, place_L = symbol_L.astype(np.int64), np.arange(len(symbol_L))
        while len(token_L):
            rank, closed = self._boundaries(token_L, is_first_L)
            is_cut = closed == NEVER
            is_first_L, is_final_L = is_cut[:-1], is_cut[:-1] & is_cut[1:]
            merging = _sheltered(rank, closed)
            if len(merging) * FEW < len(token_L):
                lowest, is_final_L = _lowest(rank[:-1], is_first_L)
                merging = np.concatenate([merging, lowest])
            token_L[merging - 1] = self._merged_R[rank[merging]]
            done_L[place_L[is_final_L]] = token_L[is_final_L]
            is_final_L[merging] = True
            left = np.flatnonzero(~is_final_L)
            token_L, place_L, is_first_L = token_L[left], place_L[left], is_first_L[left]
        return done_L

    def _boundaries(self, token_L: np.ndarray, is_first_L: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return of each boundary, uint16 [L + 1], the rank of its pair and the lowest that it can be closed by."""
        pair = token_L[:-1] * self._num_tokens
        pair += token_L[1:]
        rank, closed = np.full((2, len(token_L) + 1), NEVER)
        wall = is_first_L[1:] * NEVER
        np.bitwise_or(self._rank[pair], wall, out=rank[1:-1])
        np.bitwise_or(self._closed[pair], wall, out=closed[1:-1])
        return rank, closed


def _sheltered(rank: np.ndarray, closed: np.ndarray) -> np.ndarray:
    """Return the boundaries whose pairs nothing around them can take apart first."""
    inner = rank[1:-1]
    at = np.flatnonzero((inner <= closed[:-2]) & (inner <= closed[2:]) & (inner != NEVER)) + 1
    if not len(at):
        return at
    # Neighbours of one rank are a row of one token: every other boundary of it merges, counted from a start that is sure.
    is_start = _changes(at[1:] != at[:-1] + 1)
    start = at[is_start]
    is_sure = rank[start] < closed[start - 1]
    row = np.cumsum(is_start) - 1
    return at[is_sure[row] & ((at - start[row]) & 1 == 0)]


def _lowest(rank_L: np.ndarray, is_first_L: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the leftmost boundary of lowest rank of each piece, and bool [L], the tokens of pieces where no pair merges."""
    lowest = np.minimum.reduceat(rank_L, np.flatnonzero(is_first_L))
    piece_L = np.cumsum(is_first_L) - 1
    is_final_L = lowest[piece_L] == NEVER
    at = np.flatnonzero((rank_L == lowest[piece_L]) & ~is_final_L)
    return at[_changes(piece_L[at[1:]] != piece_L[at[:-1]])[: len(at)]], is_final_L


def _changes(is_new: np.ndarray) -> np.ndarray:
    """Return bool, the first of all and those that are new."""
    changes = np.empty(len(is_new) + 1, bool)
    changes[0], changes[1:] = True, is_new
    return changes
