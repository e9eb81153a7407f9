"""Batches are functions of (seed, update), hold the shares they promise, and mark what must not be learned."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentau.data.augmentation import Augmentation
from opentau.data.batches import Batch, BatchSource
from opentau.data.codec import Codec
from opentau.data.frames import FrameTable
from opentau.data.sampler import PositiveDraw
from opentau.errors import DataError
from opentau.types import Indicator, Source

DEMO, AUTO, HELP = Source.DEMONSTRATION, Source.AUTONOMOUS, Source.INTERVENTION


@pytest.fixture(scope="module")
def table(make_episode) -> FrameTable:
    """Task 0: a demonstration and two rollouts, one of them long and with help; task 1: a demonstration and a rollout."""
    episodes = [
        make_episode(0, (DEMO,) * 10),
        make_episode(1, (AUTO,) * 4),
        make_episode(2, (AUTO,) * 30 + (HELP,) * 5 + (AUTO,) * 5),
        make_episode(3, (DEMO,) * 7, task_id="tabletop/1", prompt="lift the cube"),
        make_episode(4, (AUTO,) * 6, task_id="tabletop/1", prompt="lift the cube"),
    ]
    return FrameTable.from_episodes(episodes, dataset_id="d")


@pytest.fixture(scope="module")
def source_of(table):
    codec = Codec.from_statistics(table.statistics())

    def make(**options) -> BatchSource:
        return BatchSource(options.pop("table", table), codec=codec, **{"horizon": 8, "batch_size": 16, "seed": 3, **options})

    return make


def bytes_of(batch: Batch) -> list[object]:
    arrays = [batch.state, batch.action, batch.action_is_pad, batch.indicator, batch.frame, batch.task, *batch.images.values()]
    return [(array.dtype, array.shape, array.tobytes()) for array in arrays] + [batch.prompt, list(batch.images)]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), updates=st.lists(st.integers(0, 10**6), min_size=1, max_size=4))
def test_a_batch_is_a_function_of_seed_and_update_in_whatever_order_they_are_asked_for(seed, updates, source_of):
    options = {"seed": seed, "augmentation": Augmentation(state_noise=0.1)}
    running = source_of(**options)
    drawn = {update: bytes_of(running(update)) for update in updates}
    for update in reversed(updates):
        assert bytes_of(source_of(**options)(update)) == drawn[update]


def test_other_seeds_and_updates_give_other_batches(source_of):
    frames = [tuple(source_of(seed=seed)(update).frame) for seed in (1, 2) for update in (0, 1)]
    assert len(set(frames)) == 4


def test_a_batch_has_the_types_and_shapes_it_promises(source_of, table):
    batch = source_of()(0)
    shapes = {name: (column.dtype.str, column.shape) for name, column in vars_of(batch).items()}
    assert shapes == {
        "state": ("<f4", (16, 3)),
        "action": ("<f4", (16, 8, 2)),
        "action_is_pad": ("|b1", (16, 8)),
        "indicator": ("|i1", (16,)),
        "frame": ("<i8", (16,)),
        "task": ("<i4", (16,)),
    }
    assert batch.images["wrist"].shape == (16, 8, 12, 3)
    np.testing.assert_array_equal(batch.images["wrist"], table.images["wrist"][batch.frame])
    assert batch.prompt == [["push the cube", "lift the cube"][task] for task in batch.task]
    assert (batch.indicator == Indicator.ABSENT).all()


def vars_of(batch: Batch) -> dict[str, np.ndarray]:
    return {name: getattr(batch, name) for name in ("state", "action", "action_is_pad", "indicator", "frame", "task")}


def test_chunks_hold_the_encoded_actions_and_pad_past_the_end_and_past_a_takeover(source_of, table):
    codec = Codec.from_statistics(table.statistics())
    rows = np.array([8, 41, 46, 52])  # near an end; before a takeover; in the intervention; after it was handed back
    batch = source_of().batch_of(rows, np.random.default_rng(0))
    np.testing.assert_array_equal((~batch.action_is_pad).sum(axis=1), [2, 3, 8, 2])
    for sample, (row, num_valid) in enumerate(zip(rows, [2, 3, 8, 2], strict=True)):
        wanted = codec.encode_action(table.action[row : row + num_valid])
        np.testing.assert_array_equal(batch.action[sample, :num_valid], wanted)
        np.testing.assert_array_equal(batch.action[sample, num_valid:], np.repeat(wanted[-1:], 8 - num_valid, axis=0))
        assert not batch.action_is_pad[sample, :num_valid].any()


def drawn_rows(source: BatchSource, num_updates: int = 400) -> np.ndarray:
    return np.concatenate([source(update).frame for update in range(num_updates)])


def test_batches_are_half_human_and_half_autonomous_by_task_then_episode_then_frame(source_of, table):
    rows = drawn_rows(source_of(batch_size=32))
    is_human = table.source[rows] != AUTO
    assert is_human.mean() == 0.5
    human, autonomous = rows[is_human], rows[~is_human]
    # Human: task 0 has the demonstration and the helped episode, task 1 one demonstration.
    np.testing.assert_allclose(np.bincount(table.episode[human], minlength=5) / len(human), [0.25, 0, 0.25, 0.5, 0], atol=0.02)
    # Autonomous: a long and a short episode of task 0 weigh the same.
    np.testing.assert_allclose(
        np.bincount(table.episode[autonomous], minlength=5) / len(autonomous), [0, 0.25, 0.25, 0, 0.5], atol=0.02
    )
    in_long = autonomous[table.episode[autonomous] == 2]
    counts = np.bincount(table.tick[in_long], minlength=40)
    assert (counts[30:35] == 0).all()
    assert np.abs(counts[counts > 0] / len(in_long) - 1 / 35).max() < 0.02


def test_odd_shares_hold_on_average(source_of, table):
    rows = drawn_rows(source_of(batch_size=5, shares={"human": 0.3, "autonomous": 0.7}), num_updates=2000)
    assert abs((table.source[rows] != AUTO).mean() - 0.3) < 0.01


def test_an_empty_group_leaves_its_share_to_the_other(make_episode, source_of):
    demos = FrameTable.from_episodes([make_episode(0, (DEMO,) * 10)], dataset_id="d")
    assert set(source_of(table=demos)(0).frame) <= set(range(10))


def test_frames_that_are_not_eligible_are_never_drawn(source_of, table):
    eligible = table.rows_of_episodes([0, 4])
    assert set(table.episode[drawn_rows(source_of(eligible=eligible), 50)]) == {0, 4}
    with pytest.raises(DataError, match="no frames to draw from"):
        source_of(eligible=np.zeros(len(table), bool))
    with pytest.raises(DataError, match="no frames to draw from"):
        source_of(eligible=table.rows_of_episodes([1]), shares={"human": 1.0})


def test_unknown_groups_are_errors_with_near_matches(source_of):
    with pytest.raises(DataError, match=r"unknown group of frames 'humans'\. Did you mean 'human'"):
        source_of(shares={"humans": 1.0})


def test_indicators_follow_their_frames(source_of, table):
    indicator = np.where(table.source == AUTO, Indicator.NEGATIVE, Indicator.POSITIVE).astype(np.int8)
    batch = source_of(indicator=indicator)(0)
    np.testing.assert_array_equal(batch.indicator, indicator[batch.frame])


def test_a_random_shift_moves_whole_images_and_repeats_their_border():
    images = np.random.default_rng(0).integers(0, 256, (7, 12, 16, 3), dtype=np.uint8)
    rows = np.random.default_rng(1).integers(0, 7, 40)
    shifted = Augmentation(shift_share=0.25).shift(images[rows], np.random.default_rng(2))
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="edge")
    crops = {(dy, dx): padded[:, dy : dy + 12, dx : dx + 16] for dy in range(9) for dx in range(9)}
    found = [
        [offset for offset, crop in crops.items() if np.array_equal(crop[row], image)]
        for row, image in zip(rows, shifted, strict=True)
    ]
    assert all(found)
    offsets = np.array([offset for offset, *_ in found])
    assert offsets.min() == 0
    assert offsets.max() == 8


def test_augmenting_a_batch_of_64_with_two_cameras_is_fast():
    images = np.zeros((500, 64, 64, 3), np.uint8)
    rng = np.random.default_rng(0)
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        for _camera in range(2):
            Augmentation().shift(images[rng.integers(0, 500, 64)], rng)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.010


def test_a_rare_extreme_of_a_dimension_that_hardly_moves_is_cut_to_the_limit(make_episode):
    steady = FrameTable.from_episodes([make_episode(0, (DEMO,) * 20)], dataset_id="d")
    corrected = dataclasses.replace(
        make_episode(1, (HELP,) * 20), action=50 * np.ones((20, steady.action.shape[1]), np.float32)
    )
    table = FrameTable.from_episodes([corrected], dataset_id="d")
    codec = Codec.from_statistics(steady.statistics())
    free, limited = (
        BatchSource(table, codec=codec, horizon=4, batch_size=8, seed=0, **limit)(0).action
        for limit in ({}, {"action_limit": 3.0})
    )
    assert free.max() > 10
    np.testing.assert_array_equal(limited, free.clip(-3.0, 3.0))


def test_a_set_share_of_the_autonomous_samples_is_positive_however_rare_positive_frames_are(table, source_of):
    indicator = np.full(len(table), Indicator.NEGATIVE, np.int8)
    indicator[np.flatnonzero(table.source == AUTO)[:2]] = Indicator.POSITIVE
    source = source_of(indicator=indicator, positives=PositiveDraw(share=0.75), batch_size=64)
    batch = source(0)
    is_autonomous = table.source[batch.frame] == AUTO
    assert is_autonomous.sum() == 32
    assert (batch.indicator[is_autonomous] == Indicator.POSITIVE).sum() == 24


@pytest.mark.parametrize(("by_episode", "share_of_the_failure"), [(False, 1 / 31), (True, 1 / 2)])
def test_a_lone_positive_frame_of_a_failure_has_as_much_room_as_one_of_a_success_or_as_a_whole_one(
    table, source_of, by_episode, share_of_the_failure
):
    rows = np.flatnonzero(table.source == AUTO)
    rows_of = [rows[table.episode[rows] == episode] for episode in (1, 2)]
    indicator = np.full(len(table), Indicator.NEGATIVE, np.int8)
    indicator[[rows_of[0][0], *rows_of[1][:30]]] = Indicator.POSITIVE
    positives = PositiveDraw(share=0.75, by_episode=by_episode)
    source = source_of(indicator=indicator, positives=positives, batch_size=1024)
    batch = source(0)
    positive = batch.frame[(batch.indicator == Indicator.POSITIVE) & (table.source[batch.frame] == AUTO)]
    assert np.mean(positive == rows_of[0][0]) == pytest.approx(share_of_the_failure, abs=0.05)


@pytest.mark.parametrize("only", [Indicator.NEGATIVE, Indicator.POSITIVE, Indicator.ABSENT])
def test_where_all_autonomous_frames_are_alike_a_positive_share_changes_nothing(table, source_of, only):
    indicator = np.full(len(table), only, np.int8)
    plain, split = source_of(indicator=indicator), source_of(indicator=indicator, positives=PositiveDraw(share=0.75))
    assert [bytes_of(plain(update)) for update in range(3)] == [bytes_of(split(update)) for update in range(3)]
