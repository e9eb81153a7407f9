"""At another rate an episode takes as long, ends where it ended and shows the pictures of the same moments."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from opentau.data.cache import FrameCache
from opentau.data.frames import FrameTable
from opentau.data.lerobot.dataset import Dataset
from opentau.data.resampling import Resampling
from opentau.errors import DataError
from opentau.types import Source


@pytest.fixture
def episode(make_episode):
    length = 13
    action = np.stack([np.linspace(0.1, 0.7, length), np.where(np.arange(length) < 6, -1.0, 1.0)], axis=1).astype(np.float32)
    state = np.cumsum(np.column_stack([action, action[:, :1]]), axis=0).astype(np.float32)
    return make_episode(0, (Source.DEMONSTRATION,) * length, action=action, executed_action=action, state=state)


@pytest.mark.parametrize("to_hz", [10.0, 40.0, 20.0, 15.0])
def test_steps_add_up_to_the_same_way(to_hz, episode, interface):
    resampled = Resampling.of(interface, to_hz=to_hz)(episode)
    assert len(resampled) == math.ceil(13 * to_hz / 20)
    assert resampled.action[:, 0].sum() == pytest.approx(episode.action[:, 0].sum(), rel=1e-5)
    assert set(resampled.action[:, 1]) == {-1.0, 1.0}
    assert resampled.reward.sum() == resampled.reward[-1] == 1.0


@pytest.mark.parametrize("name", ["Gripper", "left_jaw", "claw.pos", "6"])
def test_what_opens_and_closes_is_never_summed_up(name, episode, interface):
    named = dataclasses.replace(interface, action_names=("dx", name))
    assert set(Resampling.of(named, to_hz=10.0)(episode).action[:, 1]) == {-1.0, 1.0}


def test_the_same_rate_changes_nothing(episode, interface):
    resampled = Resampling.of(interface, to_hz=20.0)(episode)
    np.testing.assert_allclose(resampled.action, episode.action, atol=1e-6)
    np.testing.assert_array_equal(resampled.images["wrist"], episode.images["wrist"])
    np.testing.assert_array_equal(resampled.state, episode.state)


def test_targets_are_interpolated_and_pictures_are_the_nearest(episode, interface):
    absolute = dataclasses.replace(interface, action_space="absolute_ee")
    slower = Resampling.of(absolute, to_hz=10.0)(episode)
    np.testing.assert_allclose(slower.action[:, 0], episode.action[::2, 0], atol=1e-6)
    np.testing.assert_array_equal(slower.images["agentview"], episode.images["agentview"][::2])
    faster = Resampling.of(absolute, to_hz=40.0)(episode)
    np.testing.assert_allclose(faster.action[1:-1:2, 0], (episode.action[:-1, 0] + episode.action[1:, 0]) / 2, atol=1e-6)
    assert faster.action[-1, 0] == episode.action[-1, 0]


def test_a_dataset_in_the_cache_is_resampled_like_one_in_memory(fixture_root, tmp_path):
    dataset = Dataset(fixture_root, episodes=[2])
    resampling = Resampling.of(dataclasses.replace(dataset.interface, action_space="absolute_joint"), to_hz=4.0)
    options = {"image_size": 32, "resampling": resampling}
    cached = FrameTable.from_datasets([dataset], cache=FrameCache(tmp_path, budget_bytes=1 << 30), **options)
    memory = FrameTable.from_datasets([dataset], **options)
    assert len(cached) == len(memory) == math.ceil(180 * 0.4)
    rows = np.array([0, 5, 40, len(memory) - 1])
    np.testing.assert_array_equal(cached.images["front"][rows], memory.images["front"][rows])
    np.testing.assert_array_equal(cached.action, memory.action)


def test_a_rate_cannot_be_changed_without_knowing_what_an_action_is(interface):
    unknown = dataclasses.replace(interface, action_space="unknown")
    with pytest.raises(DataError, match=r"is 'unknown'.*from 20 to 10 Hz; set action_space to delta_ee"):
        Resampling.of(unknown, to_hz=10.0)
    with pytest.raises(DataError, match="control_hz is 0"):
        Resampling.of(interface, to_hz=0)
