"""The codec inverts itself, keeps decisive dimensions and never divides by nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from opentau.data.codec import Codec, affine
from opentau.data.statistics import DimStatistics
from opentau.errors import DataError

ROWS = arrays(np.float32, st.tuples(st.integers(1, 60), st.just(3)), elements=st.floats(-1e3, 1e3, width=32))


def codec_of(rows: np.ndarray, kind: str = "quantile") -> Codec:
    statistics = DimStatistics.of(rows)
    return Codec(kind=kind, state=statistics, action=statistics)


@settings(max_examples=100, deadline=None)
@given(rows=ROWS, other=ROWS, kind=st.sampled_from(["quantile", "zscore"]))
def test_decoding_inverts_encoding_also_outside_the_fitted_data(rows, other, kind):
    codec = codec_of(rows, kind)
    decoded = codec.decode_action(codec.encode_action(other))
    assert decoded.dtype == np.float32
    _, scale = affine(codec.action, kind=kind)
    assert (scale > 1e-7).all()
    np.testing.assert_allclose(decoded, other, atol=1e-3, rtol=1e-5)


def test_quantile_encoding_maps_the_inner_98_percent_to_minus_one_and_one():
    rows = np.random.default_rng(0).normal(5, 2, size=(5000, 2)).astype(np.float32)
    encoded = codec_of(rows).encode_state(rows)
    assert 0.975 < (np.abs(encoded) <= 1.0001).mean() < 0.985


@pytest.mark.parametrize("closed_share", [0.5, 0.05, 0.0105, 0.0095, 0.001])
def test_a_gripper_survives_however_seldom_it_closes(closed_share):
    gripper = np.where(np.arange(10_000) < 10_000 * closed_share, 1, -1).astype(np.float32)[:, None]
    codec = codec_of(gripper)
    np.testing.assert_array_equal(codec.encode_action(gripper), gripper)
    np.testing.assert_array_equal(codec.decode_action(gripper), gripper)


@pytest.mark.parametrize("kind", ["quantile", "zscore"])
def test_a_constant_dimension_is_shifted_to_zero_and_not_scaled(kind):
    rows = np.full((100, 1), 0.3, np.float32)
    rows[::2] += 1e-8
    codec = codec_of(rows, kind)
    np.testing.assert_allclose(codec.encode_state(rows), 0, atol=1e-6)
    np.testing.assert_allclose(codec.encode_state(rows + 0.5), 0.5, atol=1e-6)


def test_small_units_are_kept_in_float32():
    degrees = np.random.default_rng(0).uniform(-180, 180, size=(1000, 1)).astype(np.float32)
    codec = codec_of(degrees)
    assert np.abs(codec.decode_action(codec.encode_action(degrees)) - degrees).max() < 1e-4


@pytest.mark.parametrize("kind", ["quantile", "zscore"])
def test_a_codec_read_from_its_dict_is_equal_and_has_the_same_id(kind):
    codec = codec_of(np.random.default_rng(0).normal(size=(50, 3)), kind)
    again = Codec.from_dict(codec.to_dict())
    assert again == codec
    assert again.id == codec.id


def test_an_unknown_kind_and_a_wrong_dimension_are_errors_that_say_so():
    codec = codec_of(np.zeros((5, 3)))
    with pytest.raises(DataError, match="unknown codec 'minmax'; use one of quantile, zscore"):
        Codec.from_dict({**codec.to_dict(), "kind": "minmax"})
    with pytest.raises(DataError, match="state has 4 dimensions, the codec was fitted on 3"):
        codec.encode_state(np.zeros((2, 4), np.float32))
