"""Chunk playback: every action is played in the control tick it was made for, or never."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentau.errors import OptionError, PolicyError
from opentau.types import ActionChunk
from robot_bridge.playing.chunking import ChunkingOptions, DelayEstimate, SeamMeter, old_weights
from robot_bridge.playing.executor import ChunkExecutor
from robot_bridge.wire.payloads import ChunkReply


def reply(*, seq: int, tick: int, length: int = 12, episode_id: str = "e") -> ChunkReply:
    """A chunk whose actions say which request they answer and which tick they belong to."""
    actions = np.array([[seq, tick + i] for i in range(length)], np.float32)
    return ChunkReply(seq=seq, episode_id=episode_id, chunk=ActionChunk(actions=actions, policy_version="v"))


def executor(*, execute_horizon: int = 4, delay_ticks: int = 0, **chunking: object) -> ChunkExecutor:
    return ChunkExecutor(
        episode_id="e",
        execute_horizon=execute_horizon,
        delay_ticks=delay_ticks,
        chunking=ChunkingOptions(**chunking),
        is_step=(False, False),
    )


def played(playback: ChunkExecutor, num_ticks: int, *, length: int = 12) -> list[tuple[float, float] | None]:
    """Play in virtual time: every request is answered in the tick in which the answer is due."""
    actions: list[tuple[float, float] | None] = []
    asked_at: dict[int, int] = {}

    def answer(tick: int) -> None:
        while playback.is_due(tick):
            seq = max(asked_at)
            assert playback.accept(reply(seq=seq, tick=asked_at[seq], length=length), tick=tick)

    for tick in range(num_ticks):
        answer(tick)
        if playback.needs_request(tick):
            asked_at[tick + 1] = tick
            playback.request(tick, seq=tick + 1)
            answer(tick)
        action = playback.action(tick)
        actions.append(None if action is None else (float(action[0]), float(action[1])))
    return actions


def test_without_delay_a_chunk_is_asked_for_when_the_last_is_used_up():
    playback = executor()
    asked = []
    for tick in range(10):
        if playback.needs_request(tick):
            asked.append(tick)
            assert playback.request(tick, seq=tick) is None
            assert playback.is_due(tick)
            assert playback.accept(reply(seq=tick, tick=tick), tick=tick)
        assert playback.action(tick)[1] == tick
    assert asked == [0, 4, 8]


def test_with_a_delay_the_next_chunk_is_asked_for_early_with_what_is_committed():
    playback = executor(delay_ticks=2)
    playback.request(0, seq=1)
    playback.accept(reply(seq=1, tick=0), tick=0)
    assert not playback.needs_request(1)
    assert playback.needs_request(2)
    np.testing.assert_array_equal(playback.request(2, seq=2), [[1, 2], [1, 3]])
    assert not playback.is_due(3)
    assert playback.is_due(4)


def test_an_early_reply_does_not_change_what_is_committed():
    playback = executor(delay_ticks=2)
    playback.request(0, seq=1)
    playback.accept(reply(seq=1, tick=0), tick=0)
    playback.request(2, seq=2)
    assert playback.accept(reply(seq=2, tick=2), tick=3)
    assert [tuple(playback.action(tick)) for tick in range(2, 6)] == [(1, 2), (1, 3), (2, 4), (2, 5)]


@pytest.mark.parametrize(("wrong", "count"), [({"seq": 1}, "stale"), ({"seq": 3}, "stale"), ({"episode_id": "b"}, "foreign")])
def test_replies_to_anything_but_the_pending_request_are_never_played_and_counted_by_kind(wrong, count):
    playback = executor()
    playback.request(0, seq=1)
    playback.accept(reply(seq=1, tick=0), tick=0)
    playback.request(4, seq=2)
    assert not playback.accept(reply(**({"seq": 2, "tick": 4} | wrong)), tick=4)
    assert playback.is_due(4)
    assert playback.num_refused == getattr(playback, f"num_{count}") == 1


def test_a_reply_that_comes_after_an_interruption_is_never_played():
    playback = executor(delay_ticks=2)
    playback.request(0, seq=1)
    playback.accept(reply(seq=1, tick=0), tick=0)
    playback.request(2, seq=2)
    playback.interrupt()
    assert not playback.accept(reply(seq=2, tick=2), tick=4)
    assert playback.needs_request(9)
    assert playback.request(9, seq=3) is None
    assert playback.action(9) is None


def test_a_late_reply_finds_the_rest_of_its_predecessor_played_and_then_goes_on_in_its_own_tick():
    playback = executor(delay_ticks=2)
    playback.request(0, seq=1)
    playback.accept(reply(seq=1, tick=0), tick=0)
    playback.request(2, seq=2)
    assert [tuple(playback.action(tick)) for tick in (4, 5, 6)] == [(1, 4), (1, 5), (1, 6)]
    assert playback.accept(reply(seq=2, tick=2), tick=7)
    assert tuple(playback.action(7)) == (2, 7)


def test_a_reply_whose_ticks_are_over_is_refused_and_the_robot_holds():
    playback = executor(delay_ticks=2)
    playback.request(0, seq=1)
    playback.accept(reply(seq=1, tick=0), tick=0)
    playback.request(2, seq=2)
    assert playback.action(12) is None
    assert not playback.accept(reply(seq=2, tick=2), tick=14)
    assert playback.num_late == 1
    assert playback.needs_request(14)
    assert playback.request(14, seq=3) is None, "nothing is committed while the robot holds"


def test_what_is_committed_beyond_the_end_of_the_chunk_repeats_its_last_action():
    playback = executor(delay_ticks=0)
    playback.request(0, seq=1)
    playback.accept(reply(seq=1, tick=0, length=8), tick=0)
    playback.delay_ticks = 4  # measured meanwhile
    prefix = playback.request(6, seq=2)
    np.testing.assert_array_equal(prefix, [[1, 6], [1, 7], [1, 7], [1, 7]])
    assert [tuple(playback.action(tick)) for tick in range(6, 10)] == [(1, 6), (1, 7), (1, 7), (1, 7)]


def test_a_request_that_nothing_can_answer_any_more_is_given_up():
    playback = executor(delay_ticks=2)
    playback.request(0, seq=1)
    playback.give_up(60, longest=60)
    assert not playback.needs_request(60)
    playback.give_up(61, longest=60)
    assert playback.needs_request(61)
    assert playback.num_unanswered == 1


@pytest.mark.parametrize(("horizon", "execute"), [(16, 8), (32, 16)])
def test_every_delay_up_to_half_the_horizon_is_bridged_without_a_hold(horizon, execute):
    for delay_ticks in range(horizon - execute + 1):
        for mode in ("trained", "guided", "blend", "naive"):
            playback = executor(execute_horizon=execute, delay_ticks=delay_ticks, mode=mode)
            actions = played(playback, 100, length=horizon)
            assert None not in actions
            assert playback.num_refused == 0
            if mode != "blend":
                assert [made_for for _, made_for in actions] == list(range(100))


@pytest.mark.parametrize("mode", ["trained", "guided", "blend", "naive"])
def test_beyond_half_the_horizon_the_robot_holds_and_then_plays_the_whole_of_what_it_waited_for(mode):
    actions = played(executor(execute_horizon=8, delay_ticks=9, mode=mode), 60, length=16)
    assert [each is None for each in actions[:34]] == [False] * 8 + [True] * 9 + [False] * 8 + [True] * 9
    asked_at = 8
    assert [each[1] for each in actions[17:25]] == list(range(asked_at, asked_at + 8)), "nothing moved since the observation"


def test_holding_is_a_mode_of_its_own_and_waits_for_every_chunk():
    actions = played(executor(execute_horizon=4, delay_ticks=2, mode="hold"), 12)
    assert [each is None for each in actions] == [False] * 4 + [True] * 2 + [False] * 4 + [True] * 2


def test_a_delay_longer_than_the_policy_can_continue_is_held_through():
    actions = played(executor(execute_horizon=4, delay_ticks=3, max_prefix=2), 7)
    assert [each is None for each in actions] == [False] * 4 + [True] * 3


def test_naive_switches_over_as_soon_as_the_reply_is_there():
    playback = executor(delay_ticks=2, mode="naive")
    playback.request(0, seq=1)
    playback.accept(reply(seq=1, tick=0), tick=0)
    assert playback.request(2, seq=2) is None
    playback.accept(reply(seq=2, tick=2), tick=3)
    assert [tuple(playback.action(tick)) for tick in (3, 4)] == [(2, 3), (2, 4)]


@pytest.mark.parametrize("fade", ["linear", "exponential"])
def test_blend_fades_over_the_ticks_that_both_chunks_have_actions_for(fade):
    playback = executor(delay_ticks=2, mode="blend", fade=fade)
    playback.request(0, seq=1)
    playback.accept(reply(seq=1, tick=0, length=8), tick=0)
    assert playback.request(2, seq=2) is None
    playback.accept(reply(seq=2, tick=2, length=8), tick=4)
    actions = np.stack([playback.action(tick) for tick in range(4, 10)])
    np.testing.assert_array_equal(actions[:, 1], range(4, 10))
    new = actions[:, 0] - 1  # 0 is all old, 1 all new
    assert (np.diff(new[:4]) > 0).all()
    assert 0 < new[0] < new[3] < 1
    assert (new[4:] == 1).all()
    np.testing.assert_allclose(new[:4], 1 - old_weights(4, fade=fade)[:, 0], atol=1e-6)
    if fade == "linear":
        np.testing.assert_allclose(new[:4], [0.2, 0.4, 0.6, 0.8], atol=1e-6)


def test_a_chunk_too_short_for_the_horizon_is_refused_with_the_fix():
    playback = executor()
    playback.request(0, seq=1)
    with pytest.raises(PolicyError, match="answers 3 actions, 4 are needed"):
        playback.accept(reply(seq=1, tick=0, length=3), tick=0)


@pytest.mark.parametrize("options", [{"mode": "smooth"}, {"fade": "square"}, {"max_prefix": -1}])
def test_options_that_do_not_exist_are_refused(options):
    with pytest.raises(OptionError, match="chunking"):
        ChunkingOptions(**options)


def test_the_delay_is_the_95th_percentile_of_what_was_measured_after_warming_up():
    delay = DelayEstimate(start_ticks=3, num_warm_up=2)
    for ticks in (90, 80):
        delay.add(ticks)
    assert delay.ticks == 3
    for ticks in [2] * 38 + [5, 5, 5, 40]:
        delay.add(ticks)
    assert delay.ticks == 5


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 8), st.data())
def test_any_schedule_of_replies_losses_and_interruptions_plays_each_action_in_its_tick(execute_horizon, data):
    delay_ticks = data.draw(st.integers(0, execute_horizon))
    playback = executor(execute_horizon=execute_horizon, delay_ticks=delay_ticks)
    asked_at: dict[int, int] = {}
    promised: dict[int, tuple[float, ...]] = {}
    seq = 0

    def answer(tick: int) -> None:
        for stale in data.draw(st.lists(st.integers(1, max(1, seq - 1)), max_size=2)) if seq > 1 else ():
            assert not playback.accept(reply(seq=stale, tick=asked_at[stale]), tick=tick)
        while playback.is_due(tick):
            assert playback.accept(reply(seq=seq, tick=asked_at[seq], length=execute_horizon + delay_ticks), tick=tick)

    for tick in range(40):
        if data.draw(st.integers(0, 9)) == 0:
            playback.interrupt()
            promised.clear()
            continue  # somebody else acts in this tick
        answer(tick)
        if playback.needs_request(tick):
            seq += 1
            asked_at[seq] = tick
            prefix = playback.request(tick, seq=seq)
            assert prefix is None or len(prefix) == delay_ticks
            promised = {tick + i: tuple(action) for i, action in enumerate(() if prefix is None else prefix)}
            answer(tick)
        made_by, made_for = playback.action(tick)
        assert made_for == tick
        assert tick - asked_at[int(made_by)] < execute_horizon + delay_ticks
        assert promised.get(tick, (made_by, made_for)) == (made_by, made_for)


@dataclasses.dataclass
class Expected:
    """What the rules say, kept as plainly as possible: for every tick the action that may be played, if any."""

    plan: dict[int, tuple[float, float]] = dataclasses.field(default_factory=dict)
    pending: tuple[int, int, bool, int] | None = None
    """Request number, its tick, whether the last chunk goes on meanwhile, ticks committed."""


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["trained", "guided", "naive", "hold"]),
    st.integers(1, 6),
    st.integers(0, 6),
    st.integers(0, 8),
    st.lists(st.tuples(st.integers(0, 20), st.booleans(), st.booleans()), min_size=30, max_size=30),
    st.integers(0, 2**32 - 1),
)
def test_whatever_the_wire_does_each_executed_action_is_the_one_that_the_rules_name(
    mode, execute, extra, delay_ticks, fates, seed
):
    """Replies are delayed, lost, doubled and reordered; no tick ever plays a stale or an unnamed action."""
    horizon, rng = execute + extra, np.random.default_rng(seed)
    playback, expected = executor(execute_horizon=execute, delay_ticks=delay_ticks, mode=mode), Expected()
    bridges = mode != "hold" and delay_ticks <= min(execute, horizon - execute)
    on_the_way: list[tuple[int, ChunkReply]] = []
    asked_at: dict[int, int] = {}
    for tick in range(80):
        here = [each for each in on_the_way if each[0] <= tick]
        on_the_way = [each for each in on_the_way if each[0] > tick]
        for position in rng.permutation(len(here)):
            answer = here[position][1]
            pending, is_mine = expected.pending, expected.pending is not None and expected.pending[0] == answer.seq
            is_over = is_mine and pending[2] and tick - pending[1] >= horizon
            assert playback.accept(answer, tick=tick) == (is_mine and not is_over)
            if not is_mine:
                continue
            expected.pending = None
            if is_over:
                continue
            _, asked, goes_on, committed = pending
            first = asked + max(committed, tick - asked) if goes_on else tick
            shift = 0 if goes_on else tick - asked
            expected.plan = {t: a for t, a in expected.plan.items() if t < first}
            last = asked + horizon if goes_on else tick + (horizon if bridges else execute)
            expected.plan |= {t: (float(answer.seq), float(t - shift)) for t in range(first, last)}
        playback.give_up(tick, longest=25)
        if expected.pending:
            waited = tick - expected.pending[1]
            is_missed = tick not in expected.plan and waited > 3 * max(1, delay_ticks)
            if waited > 25 or (expected.pending[2] and (waited >= horizon or is_missed)):
                expected.pending = None
        if playback.needs_request(tick):
            assert expected.pending is None
            seq = len(asked_at) + 1
            asked_at[seq] = tick
            goes_on = playback.is_bridging and tick in expected.plan
            prefix = playback.request(tick, seq=seq)
            committed = delay_ticks if goes_on and mode in ("trained", "guided") else 0
            assert (0 if prefix is None else len(prefix)) == committed
            for i in range(committed):
                expected.plan.setdefault(tick + i, expected.plan.get(tick + i - 1))
                assert tuple(prefix[i]) == expected.plan[tick + i]
            if not goes_on:
                expected.plan = {t: a for t, a in expected.plan.items() if t < tick}
            expected.pending = (seq, tick, goes_on, committed)
            late, is_lost, is_doubled = fates[seq % len(fates)]
            answer = reply(seq=seq, tick=tick, length=horizon)
            on_the_way += [] if is_lost else [(tick + 1 + late, answer)]
            on_the_way += [(tick + 3 + late, answer)] if is_doubled else []
        action = playback.action(tick)
        assert (None if action is None else tuple(action)) == expected.plan.get(tick)


# Seams: a sinusoid whose phase the policy does not know, so that chunks disagree unless they continue what is committed.

HORIZON, EXECUTE, DELAY = 16, 8, 4


def sinusoid_reply(*, seq: int, tick: int, prefix: np.ndarray | None) -> ChunkReply:
    """A chunk of a sinusoid with an offset of its own; one that is given a prefix comes back to its offset smoothly."""
    offset = np.random.default_rng(seq).uniform(-0.5, 0.5)
    ticks = tick + np.arange(HORIZON)
    actions = np.sin(2 * np.pi * ticks / 40)[:, None] + offset
    if prefix is not None:
        last = len(prefix) - 1
        step = prefix[-1, 0] - actions[last, 0]  # goes on where the prefix ends, and keeps to it
        actions = actions + step
        actions[: len(prefix)] = prefix
    return ChunkReply(seq=seq, episode_id="e", chunk=ActionChunk(actions=actions.astype(np.float32), policy_version="sinusoid"))


def velocity_ratio(mode: str) -> float:
    """Play the sinusoid policy with a delay and return the roughest seam over the roughest place within a chunk."""
    playback = ChunkExecutor(
        episode_id="e", execute_horizon=EXECUTE, delay_ticks=DELAY, chunking=ChunkingOptions(mode=mode), is_step=(False,)
    )
    meter, waiting, seq = SeamMeter(), None, 0
    for tick in range(200):
        if waiting is not None and playback.is_due(tick):
            assert playback.accept(waiting, tick=tick)
        if playback.needs_request(tick):
            seq += 1
            prefix = playback.request(tick, seq=seq)
            waiting = sinusoid_reply(seq=seq, tick=tick, prefix=prefix)
            if playback.is_due(tick):
                assert playback.accept(waiting, tick=tick)
        meter.add(playback.action(tick), chunk=playback.chunk(tick))
    seams = meter.seams()
    assert seams.num_seams >= 20
    return seams.velocity_ratio


def test_seams_are_as_smooth_as_chunks_with_real_time_chunking_and_are_not_without():
    assert velocity_ratio("trained") <= 1.2
    assert velocity_ratio("naive") > 1.2
    assert velocity_ratio("blend") < velocity_ratio("naive")


def test_the_seam_meter_compares_seams_with_what_chunks_do_themselves():
    meter = SeamMeter()
    for position, chunk in [(0.0, 1), (1.0, 1), (2.0, 1), (5.0, 2), (6.0, 2), (7.0, 2)]:
        meter.add(np.array([position]), chunk=chunk)
    seams = meter.seams()
    assert (seams.num_seams, seams.velocity_ratio) == (1, 3.0)
    assert seams.acceleration_ratio is None, "chunks at constant speed have no acceleration to compare with"
