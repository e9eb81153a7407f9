"""The loop at a fixed rate: absolute deadlines, missed ticks counted, never two actions in quick succession."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentau.errors import OptionError
from robot_bridge.workcell.clock import RealClock, Ticker, VirtualClock


def test_deadlines_lie_on_a_grid_and_do_not_drift():
    clock = VirtualClock()
    ticker = Ticker(clock, hz=30.0)
    for _ in range(100_000):
        clock.wait_until(clock.now_s() + 0.01)  # work
        assert ticker.wait() == 0
    assert clock.now_s() == pytest.approx(100_000 / 30.0, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.0, 5.0), min_size=1, max_size=50))
def test_however_long_the_work_takes_ticks_are_at_least_half_a_period_apart_and_all_deadlines_are_accounted_for(work):
    clock = VirtualClock()
    ticker = Ticker(clock, hz=10.0)
    began, num_missed = [0.0], 0
    for periods in work:
        clock.wait_until(clock.now_s() + periods * 0.1)
        num_missed += ticker.wait()
        began.append(clock.now_s())
    assert min(b - a for a, b in itertools.pairwise(began)) >= 0.05 - 1e-9
    timing = ticker.timing()
    assert (timing.num_ticks, timing.num_missed) == (len(work), num_missed)
    last_deadline = (len(work) + num_missed) * 0.1
    assert last_deadline - 1e-9 <= began[-1] <= last_deadline + 0.05 + 1e-9


def test_lateness_is_reported_in_percentiles_of_an_episode():
    clock = VirtualClock()
    ticker = Ticker(clock, hz=10.0)
    for tick in range(100):
        clock.wait_until((tick + 1) * 0.1 + (0.02 if tick >= 98 else 0.0))
        ticker.wait()
    timing = ticker.timing()
    assert timing.jitter_p50_ms == pytest.approx(0.0, abs=1e-6)
    assert timing.jitter_max_ms == pytest.approx(20.0)
    assert timing.num_missed == 0
    ticker.start()
    assert ticker.timing().num_ticks == 0


def test_the_real_clock_waits_for_its_deadlines():
    clock = RealClock()
    ticker = Ticker(clock, hz=200.0)
    began = clock.now_s()
    num_missed = sum(ticker.wait() for _ in range(20))
    assert clock.now_s() - began >= (20 + num_missed) / 200.0


@pytest.mark.parametrize("hz", [0.0, -1.0, math.inf, math.nan])
def test_a_rate_that_is_none_is_refused(hz):
    with pytest.raises(OptionError, match="control_hz"):
        Ticker(VirtualClock(), hz=hz)
