"""The stage of an iteration that leaves the policy as it is and learns what noise its chunks begin as (improve=dsrl)."""

# Shapes: F frames, N decisions, A action dimensions.

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from opentau.checkpoint import MANIFEST, storage_errors
from opentau.config import build, locate
from opentau.data.frames import FrameTable
from opentau.data.lerobot.dataset import Dataset
from opentau.errors import OptionError, TrainingError
from opentau.loop.frames import frame_table
from opentau.loop.run import Product, StageWork
from opentau.loop.setting import Setting
from opentau.loop.valuing import FEATURES_FOLDER
from opentau.policies.drawing import num_noisy
from opentau.policies.noise import ACTOR_FILE, NoiseActor, seeded_draw, seeded_noise
from opentau.policies.policy import VLAPolicy
from opentau.training.dsrl_options import Decisions, DsrlOptions
from opentau.training.trainer import TrainReport
from opentau.types import derive_seed
from opentau.value.returns import TAKEOVER_FAIL
from opentau.value.served import are_features_kept, prefix_features
from opentau.value.table import ValueTable

TRAIN = "opentau.training.dsrl:train_noise_actor"
"""Named and not imported: stable-baselines3 takes long to load, and only this stage needs it."""
FULL_COST = 10.0
"""What the longest episode costs; one that fails costs as much again."""


def update(
    setting: Setting, iteration: int, *, frozen: Product, episodes: Sequence[Product], players: Sequence[Product]
) -> Product:
    """Learn from all autonomous episodes so far what the noise of `frozen` should be; the candidate is `frozen` with an actor.

    `players` are the policies that played the episodes: `frozen` itself, or steered by an earlier actor.
    """
    options, stage = setting.options, f"update-{iteration}"
    learning: DsrlOptions = build(options.improve.spec)

    def work(work: StageWork) -> None:
        policy = setting.load_policy(frozen.path)
        if policy.processor.predicts_subtask:
            raise OptionError(
                "improve=dsrl cannot steer a policy that says subtasks: what it reads of an episode is not recorded"
            )
        pieces = [_decisions(setting, policy, *each) for each in zip(episodes, players, strict=True)]
        decisions = _joined([piece for piece in pieces if piece is not None])
        report = TrainReport(events=setting.run.events, stage=stage)

        def on_updates(done: int, measured: dict[str, float]) -> None:
            report.metrics(done, {f"train/{name}": value for name, value in measured.items()})
            report.progress(done, learning.num_updates)
            setting.run.obey_commands()

        actor: NoiseActor = locate(TRAIN)(decisions, learning, seed=derive_seed(options.seed, stage), on_updates=on_updates)
        _keep(frozen.path, work.output, actor)
        work.summary.update(updates=learning.num_updates, decisions=len(decisions), episodes=int(decisions.is_last.sum()))

    inputs: dict[str, Any] = {
        "frozen": frozen.id,
        "players": [player.id for player in players],
        **setting.episode_inputs(episodes),
        "improve": options.improve.spec,
        "execute_horizon": options.rollout.execute_horizon,
        "max_steps": setting.max_steps,
        "seed": options.seed,
    }
    return setting.run.stage(stage, iteration=iteration, inputs=inputs, work=work)


def _decisions(setting: Setting, policy: VLAPolicy, episodes: Product, player: Product) -> Decisions | None:
    """Return the chunks that a policy played in a recorded stage, up to where a person took over; None where there are none."""
    features_dir = setting.run.directory / FEATURES_FOLDER
    table, horizon = frame_table(setting, [episodes], with_images=False), setting.options.rollout.execute_horizon
    if not are_features_kept(table, policy=policy, cache_dir=features_dir):  # images are decoded once, not in every iteration
        table = frame_table(setting, [episodes])
    frames = ValueTable(table=table, max_steps=setting.max_steps)
    is_attempt, is_success = frames.attempts(takeover=TAKEOVER_FAIL)
    rows = np.flatnonzero(is_attempt & (table.tick % horizon == 0))
    if not len(rows):
        return None
    features = prefix_features(table, policy=policy, cache_dir=features_dir)[rows]
    state = policy.processor.encode_state(table.state[rows])[:, : policy.interface.state_dim]
    attempted = np.bincount(table.episode[is_attempt], minlength=len(table.episodes))
    played = np.minimum(attempted[table.episode[rows]] - table.tick[rows], horizon)
    is_last = np.append(table.episode[rows][1:] != table.episode[rows][:-1], True)
    longest = np.array([setting.max_steps[record.task_id] for record in table.episodes])[table.episode[rows]]
    reward = -FULL_COST * (played / longest + (is_last & ~is_success[table.episode[rows]]))
    seeds = _seeds(episodes.path, table)[table.episode[rows]]
    return Decisions(
        features=features,
        state=state.astype(np.float32),
        mean=played_means(policy, player.path, features=features, state=state, seeds=seeds, ticks=table.tick[rows]),
        reward=reward.astype(np.float32),
        is_last=is_last,
    )


def _seeds(folder: Path, table: FrameTable) -> np.ndarray:
    """Return the seed of every episode of a table, object [E]: they need more than 63 bits."""
    seeds = {info.episode_id: info.seed for info in Dataset(folder, with_images=False).episodes}
    return np.array([seeds[record.episode_id] for record in table.episodes], dtype=object)


def played_means(
    policy: VLAPolicy, player: Path, *, features: np.ndarray, state: np.ndarray, seeds: np.ndarray, ticks: np.ndarray
) -> np.ndarray:
    """Return what the noise of each chunk was in the mean, float32 [N, A]: as the player's actor said, or as it was drawn."""
    num_dims = policy.interface.action_dim
    asked = [{"episode_seed": int(seed), "tick": int(tick)} for seed, tick in zip(seeds, ticks, strict=True)]
    actor = NoiseActor.load(player)
    if actor is None:
        shape = (policy.action_horizon, num_noisy(policy.model.config, policy.interface))
        return np.stack([seeded_noise(shape, **each).mean(axis=0)[:num_dims] for each in asked])
    draws = torch.from_numpy(np.stack([seeded_draw(num_dims, **each) for each in asked]))
    with torch.no_grad():
        return np.asarray(actor(actor.read(torch.from_numpy(features), torch.from_numpy(state)), draws).numpy())


def _joined(pieces: Sequence[Decisions]) -> Decisions:
    if not pieces:
        raise TrainingError("no episode has a chunk of the policy to learn from; collect more (collect.episodes)")
    names = Decisions.__slots__
    return Decisions(**{name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in names})


def _keep(frozen: Path, output: Path, actor: NoiseActor) -> None:
    """Leave a policy directory with the frozen policy's own files, not their copies where links are possible, and the actor."""
    with storage_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        for path in sorted(frozen.iterdir()):
            if path.name not in (MANIFEST, ACTOR_FILE):
                _linked(path, output / path.name)
    actor.save(output)


def _linked(path: Path, to: Path) -> None:
    try:
        os.link(path, to)
    except OSError:  # another file system, or one without links
        shutil.copy2(path, to)
