"""The audits themselves: a sound recording passes, and each kind of damage is noticed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from opentau.types import Outcome, Phase
from robot_bridge.workcell.safety import Hold
from tests.faults.dated_policy import EPISODE, INDEX, SCALE, TICK, episode_mark
from tests.faults.scene import IMAGES, audit_frames, audit_holds, audit_plans

pytestmark = pytest.mark.faults

T, SEED, FIRST = 30, 5, 100
"""Frames, the episode's seed, and commands that came before it."""
Recording = dict[str, np.ndarray]


def recording() -> Recording:
    """Return an episode: two ticks at rest, the chunk of tick 0 held for, that of tick 8 in time, and a hold at the end."""
    proposed = np.full((T, 6), np.nan, np.float32)
    proposed[:, :] = SCALE * episode_mark(SEED)
    for start, end, request, moved in ((2, 10, 0, 2), (10, 25, 8, 0)):
        proposed[start:end, TICK] = SCALE * request
        proposed[start:end, INDEX] = SCALE * (np.arange(start, end) - request - moved)
    proposed[:2] = proposed[25:] = np.nan
    level, phase = np.zeros(T, np.int8), np.full(T, Phase.AUTONOMOUS, np.int8)
    level[25:], phase[:2] = Hold.DECELERATE, Phase.RESUME
    path = np.zeros((T, 6), np.float32)
    path[:, 0] = np.cumsum(np.concatenate([np.zeros(2), np.ones(23), [0.5, 0.2, 0, 0, 0]]))
    images = np.zeros((T, 4, 4, 3), np.uint8)
    stamps = np.arange(FIRST, FIRST + T, dtype="<i8")
    images.reshape(T, -1)[:, :8] = stamps.view(np.uint8).reshape(T, 8)
    constants = {"seed": np.array(SEED), "outcome": np.array(str(Outcome.TIMEOUT)), "episode_id": np.array("e")}
    columns = {"policy_action": proposed, "hold_level": level, "fsm_state": phase, "executed_action": path, IMAGES: images}
    return constants | columns


def audit(episode: Recording, commands: np.ndarray) -> None:
    audit_frames(episode, commands, num_ticks=T)
    audit_plans(episode)
    audit_holds(episode)


def lose_a_frame(episode: Recording) -> None:
    for name, column in episode.items():
        episode[name] = np.delete(column, 7, axis=0) if column.ndim else column


def double_a_frame(episode: Recording) -> None:
    for name, column in episode.items():
        episode[name] = np.insert(column, 7, column[7], axis=0)[:T] if column.ndim else column


def change(name: str, tick: int, value: float, axis: int | None = None) -> Callable[[Recording], None]:
    def damage(episode: Recording) -> None:
        episode[name][tick if axis is None else (tick, axis)] = value

    return damage


def test_a_sound_recording_passes():
    episode = recording()
    audit(episode, np.concatenate([np.zeros((FIRST, 6), np.float32), episode["executed_action"]]))


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lose_a_frame, "lost or doubled"),
        (double_a_frame, "lost or doubled"),
        (change("executed_action", 9, 50.0, 0), "executed_action|Arrays are not equal"),
        (change("policy_action", 12, SCALE * 3, INDEX), "ticks late"),
        (change("policy_action", 20, 0.0, TICK), "older answer"),
        (change("policy_action", 12, SCALE, EPISODE), "another episode"),
        (change("policy_action", 1, SCALE * episode_mark(SEED)), "ticks late|from the future|another|older"),
        (change("hold_level", 28, Hold.NONE), "no hold"),
        (change("executed_action", 27, 99.0, 0), "Arrays are not equal"),
    ],
)
def test_damage_is_noticed(damage, text):
    episode = recording()
    commands = np.concatenate([np.zeros((FIRST, 6), np.float32), episode["executed_action"]])
    damage(episode)
    with pytest.raises(AssertionError, match=text):
        audit(episode, commands)


def test_an_arm_that_gains_speed_while_it_holds_is_noticed():
    episode = recording()
    episode["executed_action"][28:, 0] += 5.0
    with pytest.raises(AssertionError, match="gained speed"):
        audit_holds(episode)
