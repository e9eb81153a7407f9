"""Who may attend to whom, as exact truth tables."""

from __future__ import annotations

import itertools

import pytest
import torch

from opentau.models.masks import additive, attention_mask, block_ids, positions_of


def _mask(query_lengths, key_lengths, *, valid=None, first=0):
    queries, keys = block_ids(query_lengths, first=first), block_ids(key_lengths)
    valid = torch.ones(1, len(keys), dtype=torch.bool) if valid is None else torch.tensor([valid], dtype=torch.bool)
    return attention_mask(query_blocks_Q=queries, key_blocks_K=keys, key_valid_BK=valid)[0].int().tolist()


def test_one_block_is_bidirectional():
    assert _mask([3], [3]) == [[1, 1, 1], [1, 1, 1], [1, 1, 1]]


def test_blocks_of_one_token_are_causal():
    assert _mask([1, 1, 1], [1, 1, 1]) == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


def test_a_prefix_is_seen_by_what_follows_and_does_not_look_back():
    assert _mask([2, 1, 1], [2, 1, 1]) == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]


def test_a_state_block_before_the_actions_does_not_see_them():
    assert _mask([1, 2], [2, 1, 2], first=1) == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]]


def test_nobody_looks_at_padding_and_padding_has_something_to_look_at():
    assert _mask([4], [4], valid=[1, 0, 1, 0]) == [[1, 0, 1, 0]] * 4


@pytest.mark.parametrize("starts", [[0, 0, 0, 1, 1, 1], [0, 0, 1, 0, 1, 1], [0, 1, 0, 0, 0, 1]])
def test_block_numbers_are_the_running_count_of_block_starts(starts):
    edges = [index for index, start in enumerate(starts) if start or index == 0] + [len(starts)]
    lengths = [after - before for before, after in itertools.pairwise(edges)]
    assert block_ids(lengths).tolist() == torch.tensor(starts).cumsum(0).tolist()


def test_positions_count_valid_tokens_only():
    valid = torch.tensor([[True, True, False, True], [False, True, True, False]])
    assert positions_of(valid).tolist() == [[0, 1, 1, 2], [0, 0, 1, 1]]


def test_the_additive_mask_is_zero_where_allowed_and_minus_infinity_elsewhere():
    allowed = torch.tensor([[[True, False]]])
    assert additive(allowed).tolist() == [[[[0.0, -torch.inf]]]]
