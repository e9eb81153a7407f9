"""Stages that learn with LeRobot's own trainer, in LeRobot's environment: fine-tuning, and filtered behaviour cloning."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from opentau.config import build
from opentau.data.lerobot.dataset import Dataset
from opentau.errors import TrainingError
from opentau.loop.collecting import dataset_writer
from opentau.loop.frames import datasets_of, frame_table, is_worth_learning
from opentau.loop.lerobot_options import require_improvable
from opentau.loop.lerobot_trainer import LeRobotTraining, train_with_lerobot
from opentau.loop.run import Product, StageWork
from opentau.loop.setting import Setting
from opentau.loop.starting import lerobot_start
from opentau.policies.lerobot.folder import LeRobotFolder, write_interface
from opentau.policies.lerobot.start import LeRobotStart
from opentau.training.options import TrainOptions
from opentau.types import Episode, derive_seed
from opentau.value.table import ValueTable

# Shapes: F frames, T frames of one episode.

DATASET_FOLDER, TRAINING_FOLDER = "dataset", "training"
LOGS_FOLDER = "lerobot"
CHOSEN = ("num_updates", "batch_size")
"""What of the options of a training reaches LeRobot; the rest of its recipe is the preset of the policy."""


def fine_tune(setting: Setting, demonstrations: Product) -> Product:
    """Train iteration 0's policy on successful demonstrations."""
    options = setting.options
    start = lerobot_start(options, main=setting.interface)

    def work(work: StageWork) -> None:
        table = frame_table(setting, [demonstrations], with_images=False)
        _train(setting, work, "sft-0", [demonstrations], is_kept=is_worth_learning(table), start=start, options=options.sft)

    inputs = {
        "demonstrations": demonstrations.id,
        "policy": start.to_dict(),
        "train": _chosen(options.sft),
        "seed": options.seed,
    }
    return setting.run.stage("sft-0", iteration=0, inputs=inputs, work=work)


def update(setting: Setting, iteration: int, *, start: Product, episodes: Sequence[Product]) -> Product:
    """Train a candidate on what the improver keeps of all episodes so far, from the weights of `start`."""
    options, stage = setting.options, f"update-{iteration}"
    require_improvable(options)
    begun = lerobot_start(options, main=setting.interface)

    def work(work: StageWork) -> None:
        frames = ValueTable(table=frame_table(setting, episodes, with_images=False), max_steps=setting.max_steps)
        nothing = np.full(len(frames.table), np.nan, np.float32)
        newest = Dataset(episodes[-1].path, with_images=False).dataset_id
        labelling = build(
            options.improve.spec,
            frames,
            advantages=nothing,  # there is no value function, and the rule asks for none
            is_newest=np.array([record.dataset_id == newest for record in frames.episodes]),
            options=options.value.labels,
            seed=derive_seed(options.seed, "labels", iteration),
        )
        is_kept = (labelling.weight > 0) & is_worth_learning(frames.table)
        folder = LeRobotFolder.read(start.path)
        going_on = replace(begun, type=folder.type, checkpoint=folder.path, checkpoint_id=folder.id)
        _train(setting, work, stage, episodes, is_kept=is_kept, start=going_on, options=options.update)

    inputs = {
        "start": start.id,
        "rule": options.improve.spec,
        **setting.episode_inputs(episodes),
        "policy": begun.to_dict(),
        "train": _chosen(options.update),
        "seed": options.seed,
    }
    return setting.run.stage(stage, iteration=iteration, inputs=inputs, work=work)


def kept_pieces(episode: Episode, is_kept: np.ndarray) -> Iterator[Episode]:
    """Yield every stretch of an episode that is kept, bool [T], as an episode of its own: LeRobot learns from whole ones."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_kept, [False]]).astype(np.int8)))
    for first, end in zip(edges[0::2].tolist(), edges[1::2].tolist(), strict=True):
        whole = slice(first, end)
        columns: dict[str, Any] = {
            name: column[whole] for name, column in episode.columns().items() if not name.startswith("images.")
        }
        yield replace(
            episode,
            **columns,
            images={camera: frames[whole] for camera, frames in episode.images.items()},
            episode_id=episode.episode_id if len(is_kept) == end - first else f"{episode.episode_id}/{first:06d}",
            prompts=episode.prompts[whole],
            subtasks=episode.subtasks[whole],
        )


def _train(
    setting: Setting,
    work: StageWork,
    stage: str,
    episodes: Sequence[Product],
    *,
    is_kept: np.ndarray,
    start: LeRobotStart,
    options: TrainOptions,
) -> None:
    """Write the kept frames as a dataset, let LeRobot train on it, and keep its policy folder with the robot beside it."""
    for name in (DATASET_FOLDER, TRAINING_FOLDER):
        shutil.rmtree(work.scratch / name, ignore_errors=True)
    num_episodes, num_frames = _write_dataset(setting, work.scratch / DATASET_FOLDER, episodes, is_kept=is_kept)
    training = LeRobotTraining(
        start=start,
        dataset=work.scratch / DATASET_FOLDER,
        output=work.scratch / TRAINING_FOLDER,
        num_updates=options.num_updates,
        batch_size=options.batch_size,
        seed=derive_seed(setting.options.seed, stage) % (1 << 32),
        packages=work.scratch / "packages",
        log_path=setting.run.directory / LOGS_FOLDER / f"{stage}.log",
    )
    loss = train_with_lerobot(training, stage=stage, log=setting.run.events)
    training.keep(work.output)
    write_interface(work.output, setting.interface)
    LeRobotFolder.read(work.output).fit(setting.interface)
    work.summary.update(
        updates=options.num_updates,
        episodes=num_episodes,
        frames=num_frames,
        type=start.type,
        **({} if loss is None else {"train/loss": loss}),
    )


def _write_dataset(setting: Setting, root: Path, episodes: Sequence[Product], *, is_kept: np.ndarray) -> tuple[int, int]:
    """Write the kept frames [F], in the order of `frame_table`; return how many pieces and frames there are."""
    writer = dataset_writer(setting, root)
    num_pieces = num_frames = first = 0
    for dataset in datasets_of(setting, episodes):
        for episode in dataset:
            for piece in kept_pieces(episode, is_kept[first : first + len(episode)]):
                writer.add(num_pieces, piece)
                num_pieces, num_frames = num_pieces + 1, num_frames + len(piece)
            first += len(episode)
    if not num_pieces:
        raise TrainingError("no frame is left to learn from; record more demonstrations (data.demonstrations)")
    writer.finish()
    return num_pieces, num_frames


def _chosen(options: TrainOptions) -> dict[str, Any]:
    return {name: value for name, value in asdict(options).items() if name in CHOSEN}
