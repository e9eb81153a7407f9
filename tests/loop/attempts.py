"""Attempts at the tabletop, played by its expert, who in some lets go for good: recorded as what a policy did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from envs.experts.pick_place import PickPlaceExpert
from envs.tabletop.environment import TabletopEnv
from opentau.data.lerobot.writer import DatasetWriter
from opentau.types import Episode, Interface, Outcome, Source, derive_seed

OPEN = -1.0
MAX_STEPS = 64
ENV_ARGS = {"image_size": 32, "max_steps": MAX_STEPS, "placement_range": 0.1}


def play(env: TabletopEnv, *, number: int, num_recorded: int = MAX_STEPS) -> Episode:
    """Return an attempt; every second one opens the gripper at some tick, never closes it again, and so fails.

    With `num_recorded` the recording breaks off after so many frames, and holds nothing but how the attempt was bound to end.
    """
    seed = derive_seed(7, "attempt", number)
    rng = np.random.default_rng(seed)
    opens_at = int(rng.integers(5, 25)) if number % 2 else MAX_STEPS
    expert, (seen, info) = PickPlaceExpert(env), env.reset(seed=seed % 2**32)
    expert.start(seed=seed, is_clean=True)
    images: dict[str, list[np.ndarray]] = {camera: [] for camera in seen["images"]}
    states, actions = [], []
    is_over = False
    while not is_over and len(actions) < num_recorded:
        action = expert.act()
        if len(actions) >= opens_at:
            action[-1] = OPEN
        for camera, pixels in seen["images"].items():
            images[camera].append(pixels)
        states.append(seen["state"])
        actions.append(action)
        seen, _, has_ended, is_late, info = env.step(action)
        is_over = has_ended or is_late
    length, is_success = len(actions), opens_at == MAX_STEPS
    assert not is_over or is_success == info["is_success"]
    action = np.array(actions, np.float32)
    reward = np.zeros(length, np.float32)
    reward[-1] = float(is_success)
    return Episode(
        images={camera: np.stack(frames) for camera, frames in images.items()},
        state=np.array(states, np.float32),
        action=action,
        policy_action=action,
        executed_action=action,
        source=np.full(length, Source.AUTONOMOUS, np.int8),
        reward=reward,
        value=np.full(length, np.nan, np.float32),
        sim_state=np.zeros((length, 0)),
        prompt=env.prompt,
        task_id=env.task_id,
        outcome=Outcome.SUCCESS if is_success else Outcome.TIMEOUT,
        seed=seed,
        episode_id=f"attempts/{number:06d}",
        env_id=env.env_id,
        policy_version="script",
    )


def exchanged(episodes: Sequence[Episode], *, seed: int) -> list[Episode]:
    """Return episodes each of which ended as another one did."""
    order = np.random.default_rng(seed).permutation(len(episodes))
    return [replace(episode, outcome=episodes[other].outcome) for episode, other in zip(episodes, order, strict=True)]


def write(root: Path, episodes: Sequence[Episode], *, env: TabletopEnv) -> Path:
    """Write a dataset and return its folder."""
    interface = Interface.from_dict(env.metadata["interface"])
    writer = DatasetWriter(root, interface=interface, fps=20, robot_type="tabletop", env_id=env.env_id)
    for number, episode in enumerate(episodes):
        writer.add(number, episode)
    writer.finish()
    return root
