"""A frame table holds every frame of every episode once, in order."""

from __future__ import annotations

import numpy as np
import pytest

from opentau.data.frames import FrameTable, chunk_stops, episodes_held_out
from opentau.errors import DataError
from opentau.types import Outcome, Source

DEMO, AUTO, HELP = Source.DEMONSTRATION, Source.AUTONOMOUS, Source.INTERVENTION


def test_a_table_of_two_datasets_holds_their_frames_one_after_another(make_episode, record):
    demos = record({0: make_episode(0, (DEMO,) * 4), 1: make_episode(1, (DEMO,) * 3)}, name="demos")
    rollouts = record({0: make_episode(2, (AUTO, HELP), task_id="tabletop/1", outcome=Outcome.TIMEOUT)}, name="rollouts")
    table = FrameTable.from_datasets([demos, rollouts])
    episodes = [*demos, *rollouts]

    assert len(table) == 9
    for name in ("state", "action", "source"):
        np.testing.assert_array_equal(getattr(table, name), np.concatenate([getattr(episode, name) for episode in episodes]))
    for camera in ("agentview", "wrist"):
        np.testing.assert_array_equal(table.images[camera], np.concatenate([episode.images[camera] for episode in episodes]))
    np.testing.assert_array_equal(table.episode, [0, 0, 0, 0, 1, 1, 1, 2, 2])
    np.testing.assert_array_equal(table.tick, [0, 1, 2, 3, 0, 1, 2, 0, 1])
    np.testing.assert_array_equal(table.task, [0] * 7 + [1] * 2)
    np.testing.assert_array_equal(table.start, [0, 4, 7])
    np.testing.assert_array_equal(table.length, [4, 3, 2])
    assert [record.dataset_id for record in table.episodes] == [demos.dataset_id] * 2 + [rollouts.dataset_id]
    assert [record.is_success for record in table.episodes] == [True, True, False]
    assert table.task_ids == ("tabletop/0", "tabletop/1")
    np.testing.assert_array_equal(table.rows_of_episodes([0, 2]), [True] * 4 + [False] * 3 + [True] * 2)


def test_a_table_from_memory_equals_the_one_from_disk(make_episode, record):
    episodes = [make_episode(index) for index in range(3)]
    stored = FrameTable.from_datasets([record(dict(enumerate(episodes)))])
    memory = FrameTable.from_episodes(episodes, dataset_id=stored.episodes[0].dataset_id)
    assert memory.episodes == stored.episodes
    np.testing.assert_array_equal(memory.images["wrist"], stored.images["wrist"])
    assert memory.statistics().id == stored.statistics().id


def test_the_arrays_of_a_table_cannot_be_changed(make_episode):
    table = FrameTable.from_episodes([make_episode(0)], dataset_id="d")
    with pytest.raises(ValueError, match="read-only"):
        table.images["wrist"][0] = 0


def test_episodes_of_different_interfaces_do_not_mix(make_episode):
    wide = make_episode(1, state=np.zeros((6, 4), np.float32))
    with pytest.raises(DataError, match=r"collect-1/000001 has the columns .* train on datasets of one interface"):
        FrameTable.from_episodes([make_episode(0), wide], dataset_id="d")


def test_tasks_too_small_to_hold_out_an_episode_each_hold_out_some_together(make_episode):
    episodes = [make_episode(number, (DEMO,) * 2, task_id=f"t/{number // 2}") for number in range(60)]
    table = FrameTable.from_episodes(episodes, dataset_id="d")
    is_held_out = episodes_held_out(table, share=0.1)
    assert is_held_out.sum() == 2 * 6


def test_a_table_of_nothing_is_an_error():
    with pytest.raises(DataError, match="no episodes"):
        FrameTable.from_datasets([])


def test_chunks_stop_at_the_end_of_the_episode_or_at_a_takeover(make_episode):
    episodes = [
        make_episode(0, (AUTO, AUTO, HELP, HELP, AUTO, AUTO)),
        make_episode(1, (HELP, AUTO)),
        make_episode(2, (DEMO,) * 2),
    ]
    table = FrameTable.from_episodes(episodes, dataset_id="d")
    np.testing.assert_array_equal(chunk_stops(table), [2, 2, 6, 6, 6, 6, 8, 8, 10, 10])
