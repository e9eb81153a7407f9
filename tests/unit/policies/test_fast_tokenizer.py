"""Action tokens: the transform, the round trip, and that nothing undecodable turns into an action."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from opentau.errors import CheckpointError, DataError
from opentau.policies.fast_tokenizer import CLIP, FastTokenizer, cosine_basis
from tests.unit.policies.parts import ACTION_DIM, HORIZON, chunks

TOKENIZER, REPORT = FastTokenizer.fit(chunks(300), vocab_size=256)
SPELLED = {index: len(token) for token, index in json.loads(TOKENIZER.to_json())["bpe"]["model"]["vocab"].items()}
"""Coefficients of each token."""
# Rounding moves each of K coefficients by at most half a unit, and the transform keeps lengths.
LARGEST_ERROR = 0.5 / TOKENIZER.scale * np.sqrt(HORIZON)


@pytest.mark.parametrize("length", [1, 2, 7, 16])
def test_the_cosine_basis_is_orthonormal_and_starts_with_the_mean(length):
    basis = cosine_basis(length)
    assert np.allclose(basis @ basis.T, np.eye(length), atol=1e-12)
    assert np.allclose(basis[0], 1 / np.sqrt(length))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_chunks_like_those_of_the_fit_come_back_within_the_rounding(seed):
    chunk = chunks(1, seed=seed)
    decoded = TOKENIZER.decode(TOKENIZER.encode(chunk)[0])
    assert decoded is not None
    assert np.abs(decoded - chunk[0]).max() <= LARGEST_ERROR


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.float32, (1, HORIZON, ACTION_DIM), elements=st.floats(-50, 50, width=32)))
def test_every_chunk_has_tokens_that_decode_to_the_same_tokens(chunk):
    ids = TOKENIZER.encode(chunk)[0]
    decoded = TOKENIZER.decode(ids)
    assert decoded is not None
    assert decoded.shape == (HORIZON, ACTION_DIM)
    # Wild actions saturate coefficients; what decodes within the clipping range is a fixed point.
    assert np.abs(decoded).max() > CLIP or TOKENIZER.encode(decoded[None])[0] == ids


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-5, 300), max_size=2 * HORIZON * ACTION_DIM))
def test_ids_that_do_not_spell_one_chunk_decode_to_none(ids):
    is_whole = sum(SPELLED.get(index, -1_000) for index in ids) == HORIZON * ACTION_DIM
    assert (TOKENIZER.decode(ids) is not None) == is_whole


def test_a_truncated_sequence_decodes_to_none():
    assert TOKENIZER.decode(TOKENIZER.encode(chunks(1))[0][:-1]) is None


def test_the_report_counts_what_the_tokenizer_does():
    data = chunks(300)
    ids = TOKENIZER.encode(data)
    errors = np.abs(np.stack([TOKENIZER.decode(row) for row in ids]) - data)
    assert REPORT.num_chunks == 300
    assert REPORT.mean_tokens == pytest.approx(np.mean([len(row) for row in ids]))
    assert REPORT.max_error == pytest.approx(errors.max(axis=(0, 1)), abs=1e-6)
    assert REPORT.clipped_share == 0.0
    assert REPORT.mean_tokens < HORIZON * ACTION_DIM / 2


def test_rare_wild_actions_are_clipped_and_reported_instead_of_widening_the_alphabet():
    data = chunks(300)
    data[0, 0, 0] = 40.0
    tokenizer, report = FastTokenizer.fit(data, vocab_size=256)
    assert tokenizer.coefficient_range[1] <= np.ceil(CLIP * tokenizer.scale * np.sqrt(2 * HORIZON))
    assert report.clipped_share == pytest.approx(1 / data.size)
    assert report.max_error[0] > 38
    assert tokenizer.can_spell(data).tolist() == [False] + [True] * 299


def test_fitting_is_a_function_of_the_data():
    again, _ = FastTokenizer.fit(chunks(300), vocab_size=256)
    assert again.to_json() == TOKENIZER.to_json()


def test_json_and_back_gives_the_same_tokens():
    loaded = FastTokenizer.from_json(TOKENIZER.to_json())
    assert loaded.encode(chunks(20, seed=5)) == TOKENIZER.encode(chunks(20, seed=5))


def test_damaged_json_is_a_checkpoint_error():
    with pytest.raises(CheckpointError, match="cannot be read"):
        FastTokenizer.from_json(TOKENIZER.to_json()[:-40])


@pytest.mark.parametrize(
    ("data", "vocab_size", "named"),
    [
        (chunks(3)[0], 256, r"\[N, H, A\]"),
        (np.full((3, HORIZON, ACTION_DIM), np.nan, np.float32), 256, "finite"),
        (chunks(300), 16, "fast_vocab_size"),
    ],
)
def test_data_that_cannot_be_fitted_is_explained(data, vocab_size, named):
    with pytest.raises(DataError, match=named):
        FastTokenizer.fit(data, vocab_size=vocab_size)


def test_checkpoints_that_name_the_largest_coefficient_are_read():
    plain = json.loads(TOKENIZER.to_json())
    limit = TOKENIZER.coefficient_range[1]
    del plain["min_token"], plain["clip"]
    loaded = FastTokenizer.from_json(json.dumps(plain | {"limit": limit}))
    assert loaded.to_json() == TOKENIZER.to_json()


def test_more_ids_than_a_tokenizer_can_have_are_refused():
    with pytest.raises(DataError, match="lower fast_vocab_size"):
        FastTokenizer.fit(chunks(3), vocab_size=10_000)
