"""Statistics are those of the data, also when it is too much to keep."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from opentau.data.statistics import QUANTILES, DimStatistics, Statistics, StreamingStatistics
from opentau.errors import DataError

ROWS = arrays(np.float32, st.tuples(st.integers(1, 300), st.integers(1, 4)), elements=st.floats(-1e3, 1e3, width=32))


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, cut=st.integers(0, 300))
def test_statistics_in_pieces_equal_numpy_on_the_whole(rows, cut):
    stream = StreamingStatistics(rows.shape[1])
    stream.add(rows[:cut])
    stream.add(rows[cut:])
    statistics = stream.finish()

    exact = rows.astype(np.float64)
    np.testing.assert_array_equal(statistics.minimum, exact.min(axis=0))
    np.testing.assert_array_equal(statistics.maximum, exact.max(axis=0))
    np.testing.assert_allclose(statistics.mean, exact.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(statistics.std, exact.std(axis=0), atol=1e-6)
    for name, fraction in QUANTILES.items():
        np.testing.assert_array_equal(getattr(statistics, name), np.quantile(exact, fraction, axis=0, method="inverted_cdf"))


@pytest.mark.parametrize("order", ["random", "ascending", "descending"])
def test_quantiles_of_a_long_stream_stay_within_the_promised_rank_error(order):
    rows = np.random.default_rng(0).normal(size=(200_000, 2))
    rows = rows if order == "random" else np.sort(rows, axis=0)[:: 1 if order == "ascending" else -1]
    stream = StreamingStatistics(2, exact_rows=2048)
    for start in range(0, len(rows), 777):
        stream.add(rows[start : start + 777])
    statistics = stream.finish()

    num_rungs = np.ceil(np.log2(len(rows) / 2048))
    for name, fraction in QUANTILES.items():
        shares = (rows <= np.array(getattr(statistics, name))).mean(axis=0)
        assert np.abs(shares - fraction).max() <= num_rungs / 2048 + 1e-5
    assert statistics.count == len(rows)


def test_quantiles_are_of_the_data_and_not_a_mean_of_episode_quantiles():
    rows = np.arange(3700, dtype=np.float64)[:, None]
    assert DimStatistics.of(rows).q01 == (36.0,)


def test_a_histogram_gives_the_statistics_of_what_it_counts():
    pixels = np.random.default_rng(1).integers(0, 256, size=(500, 3))
    pixels[:, 1] = 7
    counts = np.stack([np.bincount(column, minlength=256) for column in pixels.T])
    of_counts, of_rows = DimStatistics.of_histogram(counts, np.arange(256)), DimStatistics.of(pixels)
    for name, value in of_rows.to_dict().items():
        np.testing.assert_allclose(getattr(of_counts, name), value, rtol=1e-9, atol=1e-9)


def test_equal_statistics_have_one_id_and_others_another(make_episode):
    statistics = Statistics.of_episodes([make_episode(0), make_episode(1)])
    assert Statistics.from_dict(statistics.to_dict()).id == statistics.id
    assert Statistics.of_episodes([make_episode(0), make_episode(2)]).id != statistics.id


def test_nan_is_an_error_that_names_row_and_dimension():
    rows = np.zeros((4, 3))
    rows[2, 1] = np.nan
    with pytest.raises(DataError, match="row 2, dimension 1 is nan"):
        DimStatistics.of(rows)


def test_no_episodes_is_an_error_and_not_an_empty_statistic():
    with pytest.raises(DataError, match="no episodes"):
        Statistics.of_episodes([])
