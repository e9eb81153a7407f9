"""Stages that train the policy: supervised fine-tuning, and the update on labelled episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from opentau.data.augmentation import Augmentation
from opentau.data.frames import FrameTable
from opentau.data.labels import LABELS_FOLDER, Labels
from opentau.data.sampler import PositiveDraw
from opentau.loop.frames import frame_table, is_worth_learning
from opentau.loop.memory import require_memory
from opentau.loop.mixing import mixture_inputs, window_episodes
from opentau.loop.options import BY_EPISODE, LoopOptions
from opentau.loop.placement import free_device_memory
from opentau.loop.run import Product, StageWork
from opentau.loop.setting import Setting
from opentau.loop.telling import metadata_options, require_room, table_metadata, write_metadata
from opentau.policies.config import PolicyConfig
from opentau.policies.options import INDICATORS
from opentau.policies.pretrained import Pretrained
from opentau.training.distribution import joined
from opentau.training.options import TrainOptions
from opentau.training.policy import PolicyData, PolicyTraining, train_policy
from opentau.types import Indicator, derive_seed

ANSWER_METRICS = ("train/vqa_accuracy/", "train/yes_no_accuracy/", "train/box_iou/")


def fine_tune(setting: Setting, demonstrations: Product) -> Product:
    """Train iteration 0's policy on successful demonstrations, the indicator fixed positive (π*0.6, section V)."""
    options = setting.options
    start = setting.policy_start()
    if options.tells_metadata:
        require_room(setting, start)

    def work(work: StageWork) -> None:
        require_memory(options, setting.interface, stage="sft", num_processes=setting.run.crew.size)
        table = frame_table(setting, [demonstrations])
        data = PolicyData(
            table=table,
            interface=setting.interface,
            indicator=np.full(len(table), Indicator.POSITIVE, np.int8),
            eligible=is_worth_learning(table),
            mixture=setting.mixture(),
            window_episodes=_window(setting, table),
        )
        _train(setting, work, "sft-0", data, start=start, options=options.sft, indicator=Indicator.POSITIVE)

    inputs = {
        "demonstrations": demonstrations.id,
        "policy": start.to_dict(),
        **_training_inputs(setting, options.sft),
    }
    return setting.run.stage("sft-0", iteration=0, inputs=inputs, work=work, is_joint=True)


def update(setting: Setting, iteration: int, *, start: Product, episodes: Sequence[Product], labels: Product) -> Product:
    """Train a candidate on all episodes so far, conditioned on their advantage indicators."""
    options, stage = setting.options, f"update-{iteration}"

    def work(work: StageWork) -> None:
        require_memory(options, setting.interface, stage="update", num_processes=setting.run.crew.size)
        table = frame_table(setting, episodes)
        aligned = Labels.read(labels.path / LABELS_FOLDER).aligned_with(table)
        data = PolicyData(
            table=table,
            interface=setting.interface,
            indicator=aligned.indicator,
            weight=aligned.weight,
            eligible=is_worth_learning(table) & (aligned.weight > 0),
            mixture=setting.mixture(),
            window_episodes=_window(setting, table),
        )
        indicator = INDICATORS[options.improve.indicator]
        _train(setting, work, stage, data, start=start.path, options=options.update, indicator=indicator)

    inputs = {
        "start": start.id,
        "labels": labels.id,
        "indicator": options.improve.indicator,
        "positives": asdict(positives) if (positives := _positive_draw(options)) else None,
        **setting.episode_inputs(episodes),
        **_training_inputs(setting, options.update),
    }
    return setting.run.stage(stage, iteration=iteration, inputs=inputs, work=work, is_joint=True)


def update_told(setting: Setting, iteration: int, *, start: Product, episodes: Sequence[Product]) -> Product:
    """Train a candidate on all episodes so far, told in words how each went, and asked for the best (improve=metadata)."""
    options, stage = setting.options, f"update-{iteration}"
    telling = metadata_options(options)

    def work(work: StageWork) -> None:
        require_memory(options, setting.interface, stage="update", num_processes=setting.run.crew.size)
        table = frame_table(setting, episodes)
        metadata = table_metadata(setting, table)
        data = PolicyData(
            table=table,
            interface=setting.interface,
            eligible=is_worth_learning(table),
            telling=metadata.telling(telling),
            drawn_as=metadata.drawn_as,
            mixture=setting.mixture(),
            window_episodes=_window(setting, table),
        )
        _train(
            setting,
            work,
            stage,
            data,
            start=start.path,
            options=options.update,
            indicator=Indicator.ABSENT,
            served_text=telling.asked,
        )
        work.summary.update(write_metadata(work.output, metadata, table=table, options=telling))

    inputs = {
        "start": start.id,
        "metadata": options.improve.spec,
        "positives": asdict(positives) if (positives := _positive_draw(options)) else None,
        **setting.episode_inputs(episodes),
        **_training_inputs(setting, options.update),
    }
    return setting.run.stage(stage, iteration=iteration, inputs=inputs, work=work, is_joint=True)


def _window(setting: Setting, table: FrameTable) -> int | None:
    """Return how many of the environment's own episodes may be at hand, beside those of other robots."""
    options = setting.options.mixture
    return window_episodes(table, options, num_tables=1 + sum(bool(part.dataset) for part in options.parts))


def _train(
    setting: Setting,
    work: StageWork,
    stage: str,
    data: PolicyData,
    *,
    start: PolicyConfig | Pretrained | Path,
    options: TrainOptions,
    indicator: Indicator,
    served_text: str = "",
) -> None:
    batch = setting.options.batch
    training = PolicyTraining(
        options=options,
        objective=replace(setting.options.objective, text_weight=setting.options.mixture.text_weight),
        tuning=setting.options.tuning,
        augmentation=Augmentation(shift_share=batch.shift_share, state_noise=batch.state_noise),
        human_share=batch.human_share,
        positives=_positive_draw(setting.options),
        held_out_share=batch.held_out_share,
        action_limit=batch.action_limit,
        served_indicator=indicator,
        served_text=served_text,
    )
    free_device_memory()
    with joined(stage, devices=setting.options.placement.train) as world:
        summary = train_policy(
            data,
            start=start,
            training=training,
            seed=derive_seed(setting.options.seed, stage),
            directory=work.output,
            work_dir=work.scratch,
            events=setting.run.events,
            stage=stage,
            between_updates=setting.run.obey_commands,
            world=world,
            distribution=setting.options.training,
        )
    work.summary.update(
        updates=summary.num_updates,
        parameters=summary.num_parameters,
        precision=summary.precision,
        **({"processes": summary.num_processes} if summary.num_processes > 1 else {}),
        **_rounded(summary.metrics),
    )


def _positive_draw(options: LoopOptions) -> PositiveDraw | None:
    improve = options.improve
    if improve.batch_positive_share is None:
        return None
    return PositiveDraw(share=improve.batch_positive_share, by_episode=improve.positive_draw == BY_EPISODE)


def _training_inputs(setting: Setting, options: TrainOptions) -> dict[str, Any]:
    """Return what a training depends on beside its data and its start; how often it reports or saves is no part of it."""
    train = {name: value for name, value in asdict(options).items() if name not in ("log_interval", "snapshot_interval")}
    settings = setting.options
    return {
        "train": train,
        "batch": asdict(settings.batch),
        "objective": asdict(settings.objective),
        "seed": settings.seed,
        **({"tuning": tuning} if (tuning := settings.tuning.to_dict()) else {}),
        **mixture_inputs(settings.mixture),
    }


def _rounded(metrics: Any) -> dict[str, float]:
    return {
        name: round(value, 5)
        for name, value in metrics.items()
        if name in ("train/loss", "train/held_out_loss", "train/cond_gap") or name.startswith(ANSWER_METRICS)
    }
