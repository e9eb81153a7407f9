"""Batches made ahead are those that are asked for, in order or out of turn, and errors and threads end where they should."""

from __future__ import annotations

import threading
import time

import pytest

from opentau.data.prefetch import Prefetch
from opentau.errors import DataError


def num_threads() -> int:
    return sum(thread.name == "prefetch" for thread in threading.enumerate())


def test_batches_are_those_of_the_source_also_after_a_resume():
    with Prefetch(lambda update: update * 10, num_updates=8) as batches:
        assert [batches(update) for update in range(5)] == [0, 10, 20, 30, 40]
        assert [batches(update) for update in (2, 3)] == [20, 30]
        assert batches(7) == 70
        assert num_threads() <= 1
    assert num_threads() == 0


def test_they_are_made_while_others_are_used_and_only_a_few_ahead():
    made = []
    with Prefetch(lambda update: made.append(update) or update, num_updates=100) as batches:
        batches(0)
        time.sleep(0.3)
        assert 2 <= len(made) <= 5


def test_waiting_is_counted_and_only_waiting():
    def slow(update: int) -> int:
        time.sleep(0.05)
        return update

    with Prefetch(slow, num_updates=20) as batches:
        for update in range(4):
            batches(update)
        hurried_s = batches.wait_s
        for update in range(4, 8):
            time.sleep(0.1)
            batches(update)
    assert hurried_s > 0.15
    assert batches.wait_s - hurried_s < 0.1


def test_an_error_is_raised_where_the_batch_is_asked_for_and_leaves_no_thread():
    def broken(update: int) -> int:
        if update == 2:
            raise DataError("episode 7, frame 3 is damaged")
        return update

    with Prefetch(broken, num_updates=9) as batches:
        assert [batches(0), batches(1)] == [0, 1]
        with pytest.raises(DataError, match="episode 7, frame 3"):
            batches(2)
    assert num_threads() == 0
