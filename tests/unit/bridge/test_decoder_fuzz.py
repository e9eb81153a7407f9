"""A hundred thousand damaged messages: refused or read, never anything else, and never at the price of memory.

`OPENTAU_FUZZ_MESSAGES=1000000` tries that many (minutes); `OPENTAU_FUZZ_SEED` tries others.
"""

from __future__ import annotations

import itertools
import os
import tracemalloc
from collections import Counter

import psutil
import pytest

from opentau.errors import LinkError
from robot_bridge.wire.messages import MAX_HEADER_BYTES, Chunk, Obs, Upload, decode
from robot_bridge.wire.payloads import played_from, reply_from, request_from
from tests.unit.bridge.mutations import Frames, mutated

NUM_MESSAGES = int(os.environ.get("OPENTAU_FUZZ_MESSAGES", "100000"))
SEED = int(os.environ.get("OPENTAU_FUZZ_SEED", "0"))
LIMIT = 1 << 20
TRACED_EVERY = 10
"""Tracing memory makes decoding several times as slow; each chunk of messages has some that are traced."""
PEAK_LIMIT = 2 * LIMIT + 16 * MAX_HEADER_BYTES
"""Bytes that one message may cost: the objects of a header, and arrays no larger than the limit, made once and copied once."""
RSS_LIMIT = 64 << 20
"""Growth of the process over the whole test; a leak of 700 bytes a message would be found."""


def take_in(frames: Frames) -> str:
    """Decode all the way to the types of OpenTau; return what became of it."""
    try:
        message, arrays = decode(frames, max_bytes=LIMIT)
        if isinstance(message, Obs):
            request_from(message, arrays)
        elif isinstance(message, Chunk):
            reply_from(message, arrays)
        elif isinstance(message, Upload):
            played_from(message, arrays)
    except LinkError:
        return "refused"
    return "read"


@pytest.mark.timeout(3600)
def test_damaged_messages_raise_nothing_but_link_errors_and_cost_bounded_memory(record_property):
    process = psutil.Process()
    messages = mutated(NUM_MESSAGES, seed=SEED)
    for frames in itertools.islice(messages, NUM_MESSAGES // 50):  # what is made once in a process
        take_in(frames)
    before = process.memory_info().rss
    outcomes: Counter[str] = Counter()
    largest = 0
    for number, frames in enumerate(messages):
        is_traced = number % TRACED_EVERY == 0
        if is_traced:
            tracemalloc.start()
        try:
            outcomes[take_in(frames)] += 1
        except BaseException:
            print(f"seed {SEED}, message {number}: {[frame[:300] for frame in frames]}")
            raise
        finally:
            if is_traced:
                largest = max(largest, tracemalloc.get_traced_memory()[1])
                tracemalloc.stop()
        assert largest <= PEAK_LIMIT, (
            f"message {number} of seed {SEED} cost {largest} bytes: {[len(frame) for frame in frames]}"
        )
    growth = process.memory_info().rss - before
    record_property("outcomes", dict(outcomes))
    record_property("largest_peak_bytes", largest)
    record_property("rss_growth_bytes", growth)
    print(f"{NUM_MESSAGES} messages: {dict(outcomes)}; one cost {largest} bytes at most, the process grew by {growth}")
    assert min(outcomes["refused"], outcomes["read"]) > NUM_MESSAGES // 100, (
        "the damages are too harsh or too mild to test much"
    )
    assert growth < RSS_LIMIT
