"""Training a policy on recorded episodes: supervised fine-tuning and every update are this, with other data and labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from opentau.data.augmentation import Augmentation
from opentau.data.batches import Batch, BatchSource
from opentau.data.codec import Codec
from opentau.data.fitting import fitted, padded
from opentau.data.frames import FrameTable, chunk_stops, episodes_held_out
from opentau.data.options import MAIN
from opentau.data.prefetch import Prefetch
from opentau.data.sampler import PositiveDraw
from opentau.data.telling import Telling
from opentau.data.window import Window
from opentau.errors import OptionError
from opentau.events import NOTE, EventLog
from opentau.models.recomputing import recompute_layers
from opentau.policies.config import PolicyConfig
from opentau.policies.fast_tokenizer import FastTokenizer
from opentau.policies.pretrained import Pretrained, start_config
from opentau.policies.processor import Processor
from opentau.policies.text_tokenizer import TextTokenizer
from opentau.policies.vla import VLA
from opentau.policies.weights import load_model, save_policy, start_model
from opentau.training.distribution import ALONE, World
from opentau.training.measuring import Measurement
from opentau.training.meter import Meter
from opentau.training.mixing import (
    SUBTASK_SHARE,
    MixtureData,
    fitted_embodiments,
    held_out_questions,
    held_out_robots,
    mixed_batches,
    policy_sizes,
    trained_rows,
)
from opentau.training.objectives import PolicyObjective
from opentau.training.options import DistributionOptions, ObjectiveOptions, TrainOptions, TuningOptions
from opentau.training.trainer import TrainReport, TrainSummary, train
from opentau.training.tuning import settle, tune
from opentau.types import Indicator, Interface, derive_seed

# Shapes: F frames, E episodes, N chunks, H actions of a chunk, A action dimensions.

MAX_TOKENIZER_CHUNKS = 4096
INDICATOR_PATTERN = "*indicator*"
"""Of learning_rate_multipliers in configs/loop.yaml; policies without an indicator's embedding have no use for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyData:
    """What a policy learns from."""

    table: FrameTable
    interface: Interface
    """Of the environment that recorded the table."""
    indicator: np.ndarray | None = None
    """`Indicator` per frame, int8 [F]; None trains without."""
    weight: np.ndarray | None = None
    """Weight of each frame's loss, float32 [F]; None weighs all alike."""
    eligible: np.ndarray | None = None
    """Frames that may be learned from, bool [F]; None for all."""
    telling: Telling | None = None
    """What the policy is told in words of how each frame's episode went; None for nothing."""
    drawn_as: np.ndarray | None = None
    """`Indicator` per frame by which `PolicyTraining.positives` are drawn, int8 [F]; None for `indicator`."""
    mixture: MixtureData | None = None
    """What is trained on besides; None for nothing."""
    window_episodes: int | None = None
    """Episodes of the table at hand at a time, for frames in a cache; None for all."""

    @property
    def is_eligible(self) -> np.ndarray:
        return np.ones(len(self.table), dtype=bool) if self.eligible is None else self.eligible


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyTraining:
    """How a policy learns from it."""

    options: TrainOptions
    objective: ObjectiveOptions = field(default_factory=ObjectiveOptions)
    tuning: TuningOptions = field(default_factory=TuningOptions)
    """Which weights are trained."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    human_share: float = 0.5
    """Share of demonstrations and interventions in a batch, where the table has autonomous frames as well."""
    positives: PositiveDraw | None = None
    """How positive autonomous frames get into a batch; None draws them as they come."""
    held_out_share: float = 0.1
    """Share of the episodes that measure instead of train."""
    action_limit: float = 3.0
    """Encoded actions beyond this are cut to it; see `BatchSource`."""
    served_indicator: Indicator = Indicator.POSITIVE
    """What the trained policy is asked with."""
    served_text: str = ""
    """What it is told with every prompt, as `PolicyData.telling` does in training."""

    def __post_init__(self) -> None:
        if not 0 <= self.human_share <= 1:
            raise OptionError(f"human_share is {self.human_share}; it must lie between 0 and 1")
        if not 0 <= self.held_out_share <= 0.5:
            raise OptionError(f"held_out_share is {self.held_out_share}; it must lie between 0 and 0.5")

    @property
    def shares(self) -> dict[str, float]:
        return {"human": self.human_share, "autonomous": 1 - self.human_share}


def train_policy(
    data: PolicyData,
    *,
    start: PolicyConfig | Pretrained | Path,
    training: PolicyTraining,
    seed: int,
    directory: Path,
    work_dir: Path,
    events: EventLog | None = None,
    stage: str = "sft",
    between_updates: Callable[[], None] | None = None,
    world: World = ALONE,
    distribution: DistributionOptions = DistributionOptions(),
) -> TrainSummary:
    """Train from a configuration or a checkpoint and write the averaged weights as a policy into `directory`.

    A configuration gets fresh weights, and codec and tokenizers fitted on the data; a pre-trained start brings weights and
    words, a checkpoint everything. The caller seals `directory`. An interrupted call resumes from `work_dir` and ends in the
    same bits. All processes of `world` make the same call; the first one writes.
    """
    is_held_out = episodes_held_out(data.table, share=training.held_out_share) & data.is_eligible
    is_trained = data.is_eligible & ~is_held_out
    log = events if world.is_first else None
    model, processor = _start(start, data, training=training, is_trained=is_trained, seed=seed, log=log)
    tune(model, training.tuning, seed=derive_seed(seed, "adapters"))
    if distribution.checkpoint_activations:
        recompute_layers(model)
    model.to(world.device)
    objective = PolicyObjective(model, processor=processor, options=training.objective)
    batches, measurement = _streams(
        data, objective, training=training, is_trained=is_trained, is_held_out=is_held_out, seed=seed
    )
    report = TrainReport(events=log, stage=stage, meter=Meter(directory=work_dir)) if log is not None else None
    with Prefetch(batches, num_updates=training.options.num_updates) as ahead:
        # Every process makes the whole batch and trains on its rows; kept, because it may do so in several pieces.
        batch_of = lru_cache(maxsize=1)(partial(_waited_for, ahead, report, interval=training.options.log_interval))
        summary = train(
            model,
            loss=lambda update, piece: objective(batch_of(update), piece),
            options=_options_of(training.options, model),
            seed=seed,
            work_dir=work_dir,
            report=report,
            evaluate=measurement,
            between_updates=between_updates,
            world=world,
            distribution=distribution,
            tuning=training.tuning,
        )
    settle(model)
    if world.is_first:
        directory.mkdir(parents=True, exist_ok=True)
        save_policy(directory, model=model, processor=processor)
    return summary


def _streams(
    data: PolicyData,
    objective: PolicyObjective,
    *,
    training: PolicyTraining,
    is_trained: np.ndarray,
    is_held_out: np.ndarray,
    seed: int,
) -> tuple[Callable[[int], Batch], Measurement]:
    """Return the batches that train and what measures on others."""
    processor = objective.processor
    source = partial(
        BatchSource,
        data.table,
        codec=processor.codec,
        horizon=processor.config.action_horizon,
        batch_size=training.options.batch_size,
        shares=training.shares,
        positives=training.positives,
        indicator=data.indicator,
        weight=data.weight,
        action_limit=training.action_limit,
        telling=data.telling,
        drawn_as=data.drawn_as,
        subtask_share=SUBTASK_SHARE if processor.predicts_subtask else 0.0,
        window=None if data.window_episodes is None else Window(num_episodes=data.window_episodes, seed=seed),
    )
    fit = _fitting(processor, data)
    batches = _training_batches(data, processor, source=source, fit=fit, is_trained=is_trained, training=training, seed=seed)
    has_held_out = bool(is_held_out.any())
    # Without held-out episodes the indicator's effect is measured on the frames that train.
    measured = source(seed=derive_seed(seed, "measure"), eligible=is_held_out if has_held_out else is_trained)
    mixture = data.mixture or MixtureData()
    measurement = _measurement(objective, measured, mixture, fit=fit, training=training, has_held_out=has_held_out, seed=seed)
    return batches, measurement


def _training_batches(
    data: PolicyData,
    processor: Processor,
    *,
    source: Callable[..., BatchSource],
    fit: Callable[[BatchSource], Callable[[int], Batch]],
    is_trained: np.ndarray,
    training: PolicyTraining,
    seed: int,
) -> Callable[[int], Batch]:
    """Return the batch of every update, of the environment's own frames or mixed with others."""
    make_own = partial(source, seed=derive_seed(seed, "train"), augmentation=training.augmentation)
    own = make_own(eligible=is_trained)
    if data.mixture is None:
        return fit(own)
    return mixed_batches(
        own,
        data.mixture,
        make_main=make_own,
        eligible=is_trained,
        processor=processor,
        augmentation=training.augmentation,
        action_limit=training.action_limit,
        held_out_share=training.held_out_share,
        num_updates=training.options.num_updates,
        seed=seed,
    )


def _options_of(options: TrainOptions, model: VLA) -> TrainOptions:
    """Return the options without the default rate of the indicator's embedding, where the policy has none."""
    if model.expert.indicator_embedding is not None:
        return options
    multipliers = {name: value for name, value in options.learning_rate_multipliers.items() if name != INDICATOR_PATTERN}
    return replace(options, learning_rate_multipliers=multipliers)


def _fitting(processor: Processor, data: PolicyData) -> Callable[[BatchSource], Callable[[int], Batch]]:
    """Return what brings batches of the environment's own frames to the cameras and dimensions of the policy."""
    sizes = policy_sizes(processor.config)
    own = (data.interface.state_dim, data.interface.action_dim, set(data.table.images))
    if own == (sizes.state_dim, sizes.action_dim, set(sizes.cameras)) and not (data.mixture and data.mixture.parts):
        return lambda source: source
    return lambda source: lambda update: fitted(source(update), sizes, part=0)


def _waited_for(ahead: Prefetch, report: TrainReport | None, update: int, *, interval: int) -> Batch:
    """Return the batch of an update, and tell now and then how long this process has waited for one on average."""
    batch = ahead(update)
    if report is not None and (update + 1) % interval == 0:
        report.metrics(update + 1, {"time/data_wait_ms": 1000 * ahead.wait_s / ahead.num_taken})
    return batch


def _measurement(
    objective: PolicyObjective,
    source: BatchSource,
    mixture: MixtureData,
    *,
    fit: Callable[[BatchSource], Callable[[int], Batch]],
    training: PolicyTraining,
    has_held_out: bool,
    seed: int,
) -> Measurement:
    processor = objective.processor
    return Measurement(
        objective,
        fit(source),
        has_held_out=has_held_out,
        seed=seed,
        others=held_out_robots(
            mixture,
            processor=processor,
            action_limit=training.action_limit,
            held_out_share=training.held_out_share,
            batch_size=source.batch_size,
            seed=seed,
        ),
        questions=held_out_questions(mixture, processor),
    )


def _start(
    start: PolicyConfig | Pretrained | Path,
    data: PolicyData,
    *,
    training: PolicyTraining,
    is_trained: np.ndarray,
    seed: int,
    log: EventLog | None,
) -> tuple[VLA, Processor]:
    """Return the model and its processor before the first update."""
    if isinstance(start, Path):
        model, processor = load_model(start)
    else:
        model, processor = _fresh(start, data, training=training, is_trained=is_trained, seed=seed, log=log)
    processor.served_indicator, processor.served_text = training.served_indicator, training.served_text
    processor.predicts_subtask = data.mixture is not None and data.mixture.subtask_weight is not None
    return model, processor


def _fresh(
    start: PolicyConfig | Pretrained,
    data: PolicyData,
    *,
    training: PolicyTraining,
    is_trained: np.ndarray,
    seed: int,
    log: EventLog | None,
) -> tuple[VLA, Processor]:
    """Return random or pre-trained weights, and codecs and tokenizers fitted on the frames that are trained on."""
    config, mixture = start_config(start), data.mixture or MixtureData()
    embodiments = fitted_embodiments(
        data.table, data.interface, mixture, held_out_share=training.held_out_share, codec=config.codec
    )
    weights_seed = derive_seed(seed, "weights")
    if isinstance(start, Pretrained):
        model, text_tokenizer = start_model(start, seed=weights_seed)
    else:
        model = VLA.create(config, seed=weights_seed)
        text_tokenizer = TextTokenizer.shipped(num_locations=config.num_locations)
    fast_tokenizer = None
    if training.objective.fast_weight:
        known = {each.name: each.codec for each in embodiments}
        tables = [(data.table, known[MAIN], is_trained)]
        tables += [
            (part.table, known[part.embodiment], trained_rows(part, held_out_share=training.held_out_share))
            for part in mixture.robots
        ]
        chunks = [
            padded(whole_chunks(table, codec, horizon=config.action_horizon, eligible=rows, seed=seed), config.action_dim)
            for table, codec, rows in tables
        ]
        fast_tokenizer, fit = FastTokenizer.fit(np.concatenate(chunks), vocab_size=config.fast_vocab_size)
        if log is not None:
            log.emit(NOTE, level="info", text=fit.told())
    processor = Processor(config, embodiments=embodiments, text_tokenizer=text_tokenizer, fast_tokenizer=fast_tokenizer)
    return model, processor


def whole_chunks(table: FrameTable, codec: Codec, *, horizon: int, eligible: np.ndarray, seed: int) -> np.ndarray:
    """Return encoded chunks without padding from eligible frames, float32 [N, H, A], N at most 4096."""
    rows = np.arange(len(table))
    rows = np.flatnonzero(eligible & (rows + horizon <= chunk_stops(table)))
    chosen = np.random.default_rng(derive_seed(seed, "chunks")).permutation(rows)[:MAX_TOKENIZER_CHUNKS]
    return codec.encode_action(table.action[chosen[:, None] + np.arange(horizon)])
