"""A peer's clock: found on slow and uneven links, forgotten when the peer starts anew, and bounded in its error."""

from __future__ import annotations

import random

from robot_bridge.wire.clocks import WINDOW_NS, PeerClock
from robot_bridge.wire.messages import TimePong

MS = 1_000_000
OFFSET_NS = 7_200_000_000_000
"""Two hours: what a wall clock would be off by after somebody moved it."""


def pong(*, sent_ns: int, out_ns: int, served_ns: int, boot_id: str = "b", offset_ns: int = OFFSET_NS) -> TimePong:
    arrived_ns = sent_ns + out_ns + offset_ns
    return TimePong(session="s", t1_ns=sent_ns, t2_ns=arrived_ns, t3_ns=arrived_ns + served_ns, boot_id=boot_id)


def test_the_offset_comes_from_the_quickest_of_many_uneven_ways():
    rng, clock = random.Random(0), PeerClock()
    for number in range(30):
        sent_ns = number * 500 * MS
        out_ns, back_ns, served_ns = (int(rng.expovariate(1 / 80) * MS) for _ in range(3))
        if number == 17:
            out_ns, back_ns = MS, MS + 200_000
        clock.add(pong(sent_ns=sent_ns, out_ns=out_ns, served_ns=served_ns), now_ns=sent_ns + out_ns + served_ns + back_ns)
    estimate = clock.estimate(now_ns=15_000 * MS)
    assert estimate.rtt_ns == 2_200_000
    assert abs(estimate.offset_ns - OFFSET_NS) <= estimate.error_ns == 1_100_000


def test_a_peer_that_started_anew_has_another_clock():
    clock = PeerClock()
    clock.add(pong(sent_ns=0, out_ns=10, served_ns=0), now_ns=20)
    clock.add(pong(sent_ns=MS, out_ns=MS, served_ns=0, boot_id="c", offset_ns=5), now_ns=3 * MS)
    assert clock.estimate(now_ns=4 * MS).offset_ns == 5
    assert clock.num_restarts == 1


def test_old_answers_and_impossible_ones_say_nothing():
    clock = PeerClock()
    assert clock.estimate(now_ns=0) is None
    clock.add(pong(sent_ns=100, out_ns=10, served_ns=-5), now_ns=200)
    clock.add(pong(sent_ns=100, out_ns=10, served_ns=500), now_ns=200)
    assert clock.estimate(now_ns=300) is None
    clock.add(pong(sent_ns=100, out_ns=10, served_ns=20), now_ns=200)
    assert clock.estimate(now_ns=300) is not None
    assert clock.estimate(now_ns=300 + 2 * WINDOW_NS) is None
