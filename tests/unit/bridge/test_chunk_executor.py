"""Chunk playback: every action is played in the control step it was made for, or never."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentau.errors import OptionError, PolicyError
from opentau.types import ActionChunk
from robot_bridge.executor import ChunkExecutor
from robot_bridge.payloads import ChunkReply


def reply(*, seq: int, tick: int, length: int = 12, episode_id: str = "e") -> ChunkReply:
    """A chunk whose actions say which request they answer and which tick they belong to."""
    actions = np.array([[seq, tick + i] for i in range(length)], np.float32)
    return ChunkReply(seq=seq, episode_id=episode_id, chunk=ActionChunk(actions=actions, policy_version="v"))


def executor(*, execute_horizon: int = 4, delay_ticks: int = 0) -> ChunkExecutor:
    return ChunkExecutor(episode_id="e", execute_horizon=execute_horizon, delay_ticks=delay_ticks)


def test_without_delay_a_chunk_is_asked_for_when_the_last_is_used_up():
    playback = executor()
    asked = []
    for tick in range(10):
        if playback.needs_request(tick):
            asked.append(tick)
            assert playback.request(tick, seq=tick) is None
            assert playback.is_waiting(tick)
            assert playback.accept(reply(seq=tick, tick=tick))
        assert playback.action(tick)[1] == tick
    assert asked == [0, 4, 8]


def test_with_a_delay_the_next_chunk_is_asked_for_early_with_what_is_committed():
    playback = executor(delay_ticks=2)
    playback.request(0, seq=1)
    playback.accept(reply(seq=1, tick=0))
    assert not playback.needs_request(1)
    assert playback.needs_request(2)
    np.testing.assert_array_equal(playback.request(2, seq=2), [[1, 2], [1, 3]])
    assert not playback.is_waiting(3)
    assert playback.is_waiting(4)


def test_an_early_reply_does_not_change_what_is_committed():
    playback = executor(delay_ticks=2)
    playback.request(0, seq=1)
    playback.accept(reply(seq=1, tick=0))
    playback.request(2, seq=2)
    assert playback.accept(reply(seq=2, tick=2))
    assert [tuple(playback.action(tick)) for tick in range(2, 6)] == [(1, 2), (1, 3), (2, 4), (2, 5)]


@pytest.mark.parametrize("wrong", [{"seq": 1}, {"seq": 3}, {"episode_id": "another"}])
def test_replies_to_anything_but_the_pending_request_are_never_played(wrong):
    playback = executor()
    playback.request(0, seq=1)
    playback.accept(reply(seq=1, tick=0))
    playback.request(4, seq=2)
    assert not playback.accept(reply(**({"seq": 2, "tick": 4} | wrong)))
    assert playback.is_waiting(4)
    assert playback.num_refused == 1


def test_a_reply_that_comes_after_an_interruption_is_never_played():
    playback = executor(delay_ticks=2)
    playback.request(0, seq=1)
    playback.accept(reply(seq=1, tick=0))
    playback.request(2, seq=2)
    playback.interrupt()
    assert not playback.accept(reply(seq=2, tick=2))
    assert playback.needs_request(9)
    assert playback.request(9, seq=3) is None
    with pytest.raises(RuntimeError, match="no action for tick 9"):
        playback.action(9)


def test_a_chunk_too_short_for_horizon_and_delay_is_refused_with_the_fix():
    playback = executor()
    playback.request(0, seq=1)
    with pytest.raises(PolicyError, match="answers 3 actions, 4 are needed"):
        playback.accept(reply(seq=1, tick=0, length=3))


def test_a_delay_as_long_as_the_horizon_is_refused():
    with pytest.raises(OptionError, match="delay_ticks is 4 and execute_horizon 4"):
        executor(delay_ticks=4)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 8), st.data())
def test_any_schedule_of_replies_losses_and_interruptions_plays_each_action_in_its_tick(execute_horizon, data):
    delay_ticks = data.draw(st.integers(0, execute_horizon - 1))
    playback = executor(execute_horizon=execute_horizon, delay_ticks=delay_ticks)
    asked_at: dict[int, int] = {}
    promised: dict[int, tuple[float, ...]] = {}
    seq = 0
    for tick in range(40):
        if data.draw(st.integers(0, 9)) == 0:
            playback.interrupt()
            promised.clear()
            continue  # somebody else acts in this tick
        if playback.needs_request(tick):
            seq += 1
            asked_at[seq] = tick
            prefix = playback.request(tick, seq=seq)
            assert prefix is None or len(prefix) == delay_ticks
            promised = {tick + i: tuple(action) for i, action in enumerate(() if prefix is None else prefix)}
        for stale in data.draw(st.lists(st.integers(1, max(1, seq - 1)), max_size=2)) if seq > 1 else ():
            assert not playback.accept(reply(seq=stale, tick=asked_at[stale]))
        while playback.is_waiting(tick):
            assert playback.accept(reply(seq=seq, tick=asked_at[seq], length=execute_horizon + delay_ticks))
        made_by, made_for = playback.action(tick)
        assert made_for == tick
        assert tick - asked_at[int(made_by)] < execute_horizon + delay_ticks
        assert promised.get(tick, (made_by, made_for)) == (made_by, made_for)
