"""A window over episodes gives every frame its turn, the shares it promises, and any batch at any time."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from opentau.data.batches import BatchSource
from opentau.data.cache import FrameCache
from opentau.data.codec import Codec
from opentau.data.frames import FrameTable
from opentau.data.lerobot.dataset import Dataset
from opentau.data.sampler import FrameSampler
from opentau.data.window import Window, WindowedGroup
from opentau.errors import DataError
from opentau.types import Source

DEMO, AUTO = Source.DEMONSTRATION, Source.AUTONOMOUS
NUM_EPISODES, LENGTH = 40, 8


@pytest.fixture(scope="module")
def table(make_episode) -> FrameTable:
    """Forty episodes of one length, a quarter of them of another task."""
    episodes = [make_episode(number, (DEMO,) * LENGTH, task_id=f"t/{int(number % 4 == 0)}") for number in range(NUM_EPISODES)]
    return FrameTable.from_episodes(episodes, dataset_id="d")


def test_few_episodes_are_at_hand_and_all_have_had_their_turn_after_a_pass(table):
    sampler = FrameSampler(table, window=Window(num_episodes=8, seed=0))
    rng = np.random.default_rng(0)
    batch_size, seen, widths = 16, set(), []
    for update in range(2 * NUM_EPISODES * LENGTH // batch_size * 2):
        rows = sampler.draw(batch_size, rng, num_before=update * batch_size)
        widths.append(len(set(table.episode[rows])))
        seen |= set(table.episode[rows])
    assert max(widths) <= 8
    assert seen == set(range(NUM_EPISODES))


def test_over_many_draws_a_window_keeps_the_shares_of_tasks_episodes_and_frames(table):
    sampler = FrameSampler(table, window=Window(num_episodes=8, seed=0))
    rng = np.random.default_rng(0)
    rows = np.concatenate([sampler.draw(64, rng, num_before=update * 64) for update in range(600)])
    assert np.bincount(table.task[rows]) / len(rows) == pytest.approx([0.5, 0.5], abs=0.02)
    shares = np.bincount(table.episode[rows]) / len(rows)
    of_rare = np.array([number % 4 == 0 for number in range(NUM_EPISODES)])
    assert shares[of_rare] == pytest.approx(0.5 / 10, rel=0.15)
    assert shares[~of_rare] == pytest.approx(0.5 / 30, rel=0.15)
    assert np.bincount(table.tick[rows]) / len(rows) == pytest.approx(1 / LENGTH, rel=0.1)


def drawn_in_a_pass(group: WindowedGroup, num_rows: int) -> list[np.ndarray]:
    """Return the rows of every step of one pass, many of each, so that all episodes at hand show."""
    rng = np.random.default_rng(0)
    return [group.pick(rng.random((200, 3)), num_before=step) for step in range(num_rows)]


def test_what_is_at_hand_is_a_function_of_seed_and_position(table):
    rows, uniform = np.arange(len(table)), np.random.default_rng(0).random((100, 3))
    first, again = (WindowedGroup(table, rows, window=Window(num_episodes=8, seed=5)) for _ in range(2))
    later = [first.pick(uniform, num_before=number) for number in (0, 500, 5000)]
    for number, wanted in zip((5000, 500, 0), reversed(later), strict=True):
        np.testing.assert_array_equal(again.pick(uniform, num_before=number), wanted)
    other = WindowedGroup(table, rows, window=Window(num_episodes=8, seed=6))
    assert not np.array_equal(other.pick(uniform, num_before=0), later[0])


def test_episodes_leave_one_after_another_and_each_stays_once_a_pass(table):
    rows = np.arange(len(table))
    group = WindowedGroup(table, rows, window=Window(num_episodes=8, seed=0), balance="episode")
    at_hand = [set(table.episode[drawn]) for drawn in drawn_in_a_pass(group, len(rows))]
    changes = [len(before - after) for before, after in itertools.pairwise(at_hand)]
    assert max(changes) <= 3
    stays = [[step for step, members in enumerate(at_hand) if episode in members] for episode in range(NUM_EPISODES)]
    for steps in stays:
        # One stretch, or two where it is at hand as the pass begins and again as it ends.
        gaps = np.count_nonzero(np.diff(steps) > 1)
        assert gaps == 0 or (gaps == 1 and steps[0] == 0 and steps[-1] == len(rows) - 1)


def test_a_window_wide_enough_for_everything_draws_from_everything(table):
    group = WindowedGroup(table, np.arange(len(table)), window=Window(num_episodes=1000, seed=0))
    assert set(table.episode[group.pick(np.random.default_rng(0).random((2000, 3)), num_before=0)]) == set(range(NUM_EPISODES))


def test_a_window_is_no_wider_for_many_tasks(make_episode):
    episodes = [make_episode(number, (DEMO,) * 4, task_id=f"t/{number}") for number in range(30)]
    table = FrameTable.from_episodes(episodes, dataset_id="d")
    group = WindowedGroup(table, np.arange(len(table)), window=Window(num_episodes=5, seed=0))
    assert all(len(set(table.episode[drawn])) <= 5 for drawn in drawn_in_a_pass(group, 50))


@pytest.mark.parametrize("window", [None, Window(num_episodes=2, seed=0), Window(num_episodes=4, seed=0)])
@pytest.mark.parametrize("balance", ["task", "episode", "frame"])
def test_balance_says_what_is_drawn_alike(balance, window, make_episode):
    lengths = (90, *[10] * 9)
    episodes = [make_episode(n, (DEMO,) * length, task_id=f"t/{int(n > 0)}") for n, length in enumerate(lengths)]
    table = FrameTable.from_episodes(episodes, dataset_id="d")
    sampler = FrameSampler(table, window=window, balance=balance)
    rng = np.random.default_rng(0)
    rows = np.concatenate([sampler.draw(60, rng, num_before=update * 60) for update in range(600)])
    wanted = {"task": [0.5, *[0.5 / 9] * 9], "episode": [0.1] * 10, "frame": np.array(lengths) / 180}[balance]
    assert np.bincount(table.episode[rows]) / len(rows) == pytest.approx(wanted, abs=0.02)


def test_an_unknown_balance_is_named(table):
    with pytest.raises(DataError, match=r"unknown balance 'tasks'\. .*task"):
        FrameSampler(table, balance="tasks")


def test_a_window_of_nothing_names_the_option_to_raise():
    with pytest.raises(DataError, match=r"the window holds 0 episodes.*raise mixture\.cache_gb"):
        Window(num_episodes=0, seed=0)


def test_batches_from_the_cache_equal_batches_from_memory_and_decode_each_episode_once_a_pass(fixture_root: Path, tmp_path):
    dataset = Dataset(fixture_root, episodes=[3, 0, 7, 11, 15])
    episode_bytes = 200 * 32 * 32 * 3
    cache = FrameCache(tmp_path, budget_bytes=2 * 4 * episode_bytes)
    cached = FrameTable.from_datasets([dataset], image_size=32, cache=cache, cameras={"agentview": "front", "hand": "wrist"})
    memory = FrameTable.from_datasets([dataset], image_size=32, cameras={"agentview": "front", "hand": "wrist"})
    assert cached.images["hand"].shape == memory.images["hand"].shape == (len(memory), 32, 32, 3)
    sources = [
        BatchSource(
            table,
            codec=Codec.from_statistics(table.statistics()),
            horizon=50,
            batch_size=32,
            seed=1,
            window=Window(num_episodes=2, seed=0),
        )
        for table in (cached, memory)
    ]
    num_updates = len(memory) // 32
    for update in range(num_updates):
        ours, theirs = (source(update) for source in sources)
        for camera in ("agentview", "hand"):
            np.testing.assert_array_equal(ours.images[camera], theirs.images[camera])
        np.testing.assert_array_equal(ours.frame, theirs.frame)
    assert cache.size_bytes() <= cache.budget_bytes
    # Two places begin within an episode each, which is at hand once more as the pass ends.
    assert cache.num_built <= 2 * (len(dataset) + 2)
