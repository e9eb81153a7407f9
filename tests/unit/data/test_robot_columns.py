"""What a robot records beside its actions survives the wire and a dataset, and is no part of any other episode."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from opentau.data.frames import FrameTable, chunk_stops
from opentau.data.lerobot.dataset import Dataset
from opentau.data.lerobot.writer import DatasetWriter
from opentau.data.resampling import Resampling
from opentau.loop.frames import is_worth_learning
from opentau.types import ROBOT_COLUMNS, Actor, Episode, EpisodePlan, EpisodeResult, Outcome
from robot_bridge.wire.messages import Upload, decode, encode
from robot_bridge.wire.payloads import played_from
from tests.fakes import arm_interface

LENGTH = 6


def episode(**changes: object) -> Episode:
    rng = np.random.default_rng(3)
    action = rng.normal(size=(LENGTH, 3)).astype(np.float32)
    plain = {
        "images": {"front": rng.integers(0, 255, (LENGTH, 4, 4, 3), dtype=np.uint8)},
        "state": rng.normal(size=(LENGTH, 3)).astype(np.float32),
        "action": action,
        "policy_action": action,
        "executed_action": action,
        "source": np.ones(LENGTH, np.int8),
        "reward": np.zeros(LENGTH, np.float32),
        "value": np.full(LENGTH, np.nan, np.float32),
        "sim_state": np.zeros((LENGTH, 0)),
        "prompt": "wave",
        "task_id": "arm/0",
        "outcome": Outcome.FAILURE,
        "seed": 1,
        "episode_id": "e/0",
        "env_id": "arm",
        "policy_version": "v1",
        "limits_id": "ab12",
        "robot": {
            "clip_mask": rng.integers(0, 15, (LENGTH, 3)).astype(np.uint8),
            "fsm_state": np.array([4, 0, 0, 1, 3, 3], np.int8),
            "hold_level": np.array([0, 0, 1, 0, 0, 2], np.int8),
            "obs_age_ms": rng.uniform(0, 30, LENGTH).astype(np.float32),
        },
    }
    return Episode(**(plain | changes))


def write(root: Path, *episodes: Episode) -> DatasetWriter:
    writer = DatasetWriter(root, interface=arm_interface(), fps=30, robot_type="fake_arm", env_id="arm")
    for index, each in enumerate(episodes):
        writer.add(index, each)
    return writer


def test_a_dataset_gives_a_robots_columns_and_limits_back(tmp_path):
    recorded = [episode(), episode(episode_id="e/1", limits_id="cd34")]
    write(tmp_path, *recorded).finish()
    dataset = Dataset(tmp_path)
    for position, each in enumerate(recorded):
        loaded = dataset.load(position)
        assert loaded.digest() == each.digest()
        assert loaded.limits_id == each.limits_id
        assert {name: str(column.dtype) for name, column in loaded.robot.items()} == ROBOT_COLUMNS


def test_a_simulators_dataset_has_no_such_columns(tmp_path):
    simulated = episode(robot={}, limits_id="")
    write(tmp_path, simulated).finish()
    dataset = Dataset(tmp_path)
    assert not set(ROBOT_COLUMNS) & set(dataset.catalog.features)
    assert "limits_id" not in dataset.catalog.rows[0].constants
    assert dataset.load(0).digest() == simulated.digest()


def test_robots_and_simulators_of_one_interface_share_a_dataset_and_stay_what_they_were(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    simulated = episode(episode_id="e/1", robot={}, limits_id="", sim_state=rng.normal(size=(LENGTH, 5)))
    first_simulated = episode(episode_id="e/2", robot={}, limits_id="", sim_state=rng.normal(size=(LENGTH, 4)))
    for name, members in (("robot", (episode(), simulated)), ("simulator", (first_simulated, episode(), simulated))):
        write(tmp_path / name, *members).finish()
        dataset = Dataset(tmp_path / name)
        assert [dataset.load(index).digest() for index in range(len(members))] == [each.digest() for each in members]


def test_the_columns_are_part_of_the_digest():
    changed = dict(episode().robot)
    changed["hold_level"] = changed["hold_level"] + np.int8(1)
    assert len({episode().digest(), episode(robot=changed).digest(), episode(limits_id="zz").digest()}) == 3


def test_an_upload_carries_them():
    sent = episode()
    plan = EpisodePlan(index=0, episode_id="e/0", task_id="arm/0", seed=1, actor=Actor.POLICY, policy_id="p")
    result = EpisodeResult(
        plan=plan, outcome=Outcome.FAILURE, num_steps=LENGTH, num_intervention_steps=0, policy_version="v1", digest="d"
    )
    message = Upload(session="s", result=result, prompt="wave", env_id="arm", num_clipped_actions=2, limits_id="ab12")
    received, arrays = decode(encode(message, sent.columns()), max_bytes=1 << 20)
    assert played_from(received, arrays).episode.digest() == sent.digest()


def test_resampling_takes_those_of_the_nearest_frame():
    slower = Resampling.of(arm_interface(), to_hz=15.0)(episode())
    np.testing.assert_array_equal(slower.robot["fsm_state"], episode().robot["fsm_state"][::2])


@pytest.mark.parametrize(
    "changes",
    [
        {"limits_id": ""},
        {"robot": {}},
        {"robot": {"clip_mask": np.zeros((LENGTH, 3), np.uint8)}},
        {"robot": episode().robot | {"clip_mask": np.zeros((LENGTH, 2), np.uint8)}},
        {"robot": episode().robot | {"fsm_state": np.zeros(LENGTH, np.int64)}},
        {"robot": episode().robot | {"hold_level": np.zeros(LENGTH - 1, np.int8)}},
    ],
)
def test_a_robots_columns_are_complete_or_the_episode_is_refused(changes):
    with pytest.raises(ValueError, match="e/0"):
        dataclasses.replace(episode(), **changes)


def test_no_policy_learns_from_frames_in_which_nobody_moved_the_robot():
    """Phases of the episode: resume, autonomous, held by the ladder, paused, human, human held by the ladder."""
    changed = episode().robot | {"fsm_state": np.array([4, 0, 0, 1, 3, 3], np.int8)}
    source = np.array([1, 1, 1, 2, 2, 2], np.int8)
    table = FrameTable.from_episodes([episode(robot=changed, source=source)], dataset_id="d")
    assert table.is_held.tolist() == [True, False, True, True, False, True]
    assert is_worth_learning(table).tolist() == [False, True, False, False, True, False]
    assert chunk_stops(table).tolist() == [1, 2, 3, 4, 5, 6]


def test_a_simulators_robot_is_held_where_its_policy_proposed_nothing():
    proposed = episode().policy_action.copy()
    proposed[2:4] = np.nan
    simulated = episode(policy_action=proposed, robot={}, limits_id="")
    table = FrameTable.from_episodes([simulated], dataset_id="d")
    assert table.is_held.tolist() == [False, False, True, True, False, False]
    assert chunk_stops(table).tolist() == [2, 2, 3, 4, 6, 6]
    foreign = dataclasses.replace(simulated, policy_version="", policy_action=np.full_like(proposed, np.nan))
    assert not foreign.is_held.any(), "recordings of others name no proposals"
