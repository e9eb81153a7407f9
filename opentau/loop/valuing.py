"""Stages that judge: the critic, and the labels that rest on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from opentau import events
from opentau.checkpoint import read_manifest, write_json
from opentau.config import build, plain_from
from opentau.data.frames import FrameTable
from opentau.data.labels import LABELLING_FILE, LABELS_FOLDER, Labels
from opentau.data.lerobot.dataset import Dataset
from opentau.data.vlm.samples import QuestionSource
from opentau.errors import OptionError
from opentau.labelfacts import label_facts
from opentau.loop.chunk_values import fit_chunk_values
from opentau.loop.frames import frame_table
from opentau.loop.mixing import mixture_inputs
from opentau.loop.options import LoopOptions
from opentau.loop.placement import free_device_memory
from opentau.loop.run import Product, StageWork
from opentau.loop.setting import Setting
from opentau.policies.policy import VLAPolicy
from opentau.training.critic import CriticFit
from opentau.training.critic_loss import CriticQuestions
from opentau.training.distribution import World, joined
from opentau.training.mixing import policy_sizes
from opentau.types import Indicator, Source, derive_seed
from opentau.value.checks import doubts, measure_critic, require_usable
from opentau.value.critic import CriticConfig, load_critic, save_critic
from opentau.value.served import critic_inputs, input_sizes
from opentau.value.table import ValueTable

VALUES_FILE = "values.npy"
QUALITY_FILE = "quality.json"
FEATURES_FOLDER = "features"
DEMONSTRATION_RULE = {"target": "opentau.value.labels:demonstration_labels", "args": {}}


def fit_critic(
    setting: Setting, iteration: int, *, policy: Product, episodes: Sequence[Product], start: Product | None = None
) -> Product:
    """Fit the critic on all episodes so far: K out-of-fold ones for the labels, one on everything for supervisors.

    A critic that is clearly no use stops the loop with a `CriticError`, once there are episodes to be labelled.
    """
    options, stage = setting.options, f"value-{iteration}"
    is_labelled = bool(iteration) or options.value.labels.demonstration_share is not None

    def work(work: StageWork) -> None:
        free_device_memory()
        with joined(stage, devices=options.placement.train) as world:
            served, fit = _critic_fit(setting, work, stage, policy=policy, episodes=episodes, start=start, world=world)
            frames = fit.frames
            num_folds = options.value.fit.num_folds if is_labelled and options.value.fit.num_folds > 1 else 0
            num_updates, num_fits = options.value.fit.num_updates, num_folds + 1
            values = fit.out_of_fold(num_fits=num_fits) if num_folds else None
            critic = fit.on_all(num_done=num_folds * num_updates, num_total=num_fits * num_updates)
            if is_labelled and values is None:
                # With a single fold the labels rest on what the critic was fitted on: a comparison, see value.fit.num_folds.
                values = fit.scored(critic)
            if options.value.scores_chunks:
                knows = fit_chunk_values(
                    fit,
                    policy=served,
                    num_actions=options.rollout.execute_horizon,
                    cache_dir=setting.run.directory / FEATURES_FOLDER,
                    directory=work.output,
                )
                work.summary.update({name: round(value, 4) for name, value in knows.items()})
        if not world.is_first:
            return
        save_critic(critic, work.output)
        work.summary.update(episodes=len(frames.episodes), frames=len(frames.table))
        if values is not None:
            np.save(work.output / VALUES_FILE, values, allow_pickle=False)
            folds = fit.folds if num_folds else None
            quality = measure_critic(values, frames=frames, takeover=options.value.takeover, folds=folds)
            write_json(work.output / QUALITY_FILE, asdict(quality))
            require_usable(quality)
            for doubt in doubts(quality):
                setting.run.events.emit(events.NOTE, level="warning", text=doubt)
            work.summary.update({name: round(value, 4) for name, value in quality.metrics().items()})

    inputs = {
        "policy": policy.id,
        **setting.episode_inputs(episodes),
        "start": start.id if start else None,
        "max_steps": setting.max_steps,
        "critic": plain_from(options.value.critic),
        "fit": {name: value for name, value in plain_from(options.value.fit).items() if name != "snapshot_interval"},
        "takeover": options.value.takeover,
        "seed": options.seed,
        **_critic_start(options),
        **({"labels": True} if is_labelled and not iteration else {}),
        **({"chunks": options.rollout.execute_horizon} if options.value.scores_chunks else {}),
    }
    return setting.run.stage(stage, iteration=iteration, inputs=inputs, work=work, is_joint=True)


def label(setting: Setting, iteration: int, *, critic: Product, episodes: Sequence[Product]) -> Product:
    """Turn out-of-fold values into n-step advantages and indicators, in sidecar tables.

    In iteration 0 demonstrations are labelled, by what came of them to the end of the episode.
    """
    options, stage = setting.options, f"label-{iteration}"
    rule, lookahead = (options.improve.spec, options.value.lookahead) if iteration else (DEMONSTRATION_RULE, None)

    def work(work: StageWork) -> None:
        frames = ValueTable(table=frame_table(setting, episodes, with_images=False), max_steps=setting.max_steps)
        values = np.load(critic.path / VALUES_FILE, allow_pickle=False)
        advantages = frames.advantages(values, lookahead=lookahead, takeover=options.value.takeover)
        newest = Dataset(episodes[-1].path, with_images=False).dataset_id if iteration else None
        is_newest = np.array([record.dataset_id == newest for record in frames.episodes])
        labelling = build(
            rule,
            frames,
            advantages=advantages,
            is_newest=is_newest,
            options=options.value.labels,
            seed=derive_seed(options.seed, "labels", iteration),
        )
        for note in labelling.notes:
            setting.run.events.emit(events.NOTE, level="info", text=note)
        returns = frames.returns(takeover=options.value.takeover)
        labels = Labels.of_table(
            frames.table,
            returns=returns,
            values=values,
            advantages=advantages,
            indicator=labelling.indicator,
            weight=labelling.weight,
        )
        labels.write(work.output / LABELS_FOLDER, info={"content": {"rule": rule}})
        write_json(work.output / LABELLING_FILE, {"thresholds": labelling.thresholds, "notes": list(labelling.notes)})
        facts = label_facts(
            iteration=iteration,
            source=frames.table.source,
            advantages=labels.advantages,
            indicator=labels.indicator,
            values=labels.values,
            returns=labels.returns,
            thresholds=labelling.thresholds,
        )
        setting.run.events.emit(events.LABELLED, stage=stage, **facts.to_event())
        work.summary.update(_positive_shares(frames.table, labelling.indicator))
        if iteration:
            work.summary.update(_agreement(frames, labelling.indicator))

    inputs = {
        "critic": critic.id,
        **setting.episode_inputs(episodes),
        "rule": rule,
        "labels": plain_from(options.value.labels),
        "lookahead": lookahead,
        "takeover": options.value.takeover,
        "seed": options.seed,
    }
    return setting.run.stage(stage, iteration=iteration, inputs=inputs, work=work)


def _critic_fit(
    setting: Setting,
    work: StageWork,
    stage: str,
    *,
    policy: Product,
    episodes: Sequence[Product],
    start: Product | None,
    world: World,
) -> tuple[VLAPolicy, CriticFit]:
    """Return the policy whose features the critic reads, and how it is fitted."""
    options = setting.options
    frames = ValueTable(table=frame_table(setting, episodes), max_steps=setting.max_steps)
    served = setting.load_policy(policy.path)
    prompts = tuple(task.prompt for task in setting.tasks)
    sizes = input_sizes(served, options.value.critic, state_dim=setting.interface.state_dim, num_prompts=len(prompts))
    config = CriticConfig(options=options.value.critic, sizes=sizes, prompts=prompts, policy_version=policy.id)
    cache_dir = setting.run.directory / FEATURES_FOLDER
    inputs = critic_inputs(frames.table, policy=served, config=config, cache_dir=cache_dir, company=world)
    fit = CriticFit(
        frames=frames,
        inputs=inputs,
        config=config,
        options=options.value,
        seed=derive_seed(options.seed, stage),
        work_dir=work.scratch,
        start=load_critic(start.path) if start else None,
        events=setting.run.events,
        stage=stage,
        between_updates=setting.run.obey_commands,
        world=world,
        distribution=options.training,
        pretrained=Path(options.value.pretrained).expanduser() if options.value.pretrained else None,
        questions=_critic_questions(setting, served),
    )
    return served, fit


def _critic_start(options: LoopOptions) -> dict[str, Any]:
    """Return what a critic depends on beside its sizes and its episodes: whose weights it starts from, and its questions."""
    value, found = options.value, dict[str, Any]()
    if value.pretrained is not None:
        found["pretrained"] = read_manifest(Path(value.pretrained).expanduser())["id"]
    if value.text_weight:
        found |= {"text_weight": value.text_weight, **mixture_inputs(options.mixture)}
    return found


def _critic_questions(setting: Setting, served: VLAPolicy) -> CriticQuestions | None:
    """Return the questions of all parts of the mixture as one source, None where the critic is not to answer any."""
    value = setting.options.value
    if not value.text_weight:
        return None
    mixture = setting.mixture()
    samples = [sample for part in mixture.questions for sample in part.questions.train] if mixture else []
    if not samples:
        raise OptionError(f"value.text_weight is {value.text_weight}, but mixture.parts has no questions; add some, or 0")
    return CriticQuestions(
        source=QuestionSource(samples, sizes=policy_sizes(served.processor.config)),
        processor=served.processor,
        weight=value.text_weight,
        num_samples=value.fit.num_questions,
    )


def _positive_shares(table: FrameTable, indicator: np.ndarray) -> dict[str, float]:
    """Return the share of positive frames per source."""
    is_positive = indicator == Indicator.POSITIVE
    of_source = {source: table.source == source for source in Source}
    return {
        f"positive_{source.name.lower()}": round(float(is_positive[rows].mean()), 4)
        for source, rows in of_source.items()
        if rows.any()
    }


def _agreement(frames: ValueTable, indicator: np.ndarray) -> dict[str, float]:
    """Return which share of the autonomous frames that led to success is positive, and the other way round."""
    is_good = frames.led_to_success()[frames.is_autonomous]
    is_positive = (indicator == Indicator.POSITIVE)[frames.is_autonomous]
    both = float((is_good & is_positive).sum())
    return {
        "positive_of_success": round(both / max(1, int(is_good.sum())), 4),
        "positive_from_success": round(both / max(1, int(is_positive.sum())), 4),
    }
