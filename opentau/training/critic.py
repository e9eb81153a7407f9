"""Fitting the critic: on all episodes for supervisors, and on all folds but one for the values that labels rest on.

With several processes whole fits are dealt out, and everybody gets what each has found: the bits are those of one process. For
critics that fill a device they can share every fit instead, as they share the training of a policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from opentau.errors import CheckpointError
from opentau.events import EventLog
from opentau.models.recomputing import recompute_layers
from opentau.training.critic_loss import CriticLoss, CriticQuestions
from opentau.training.distribution import ALONE, Piece, World
from opentau.training.options import DistributionOptions, TrainOptions
from opentau.training.trainer import TrainReport, train
from opentau.types import derive_seed
from opentau.value.critic import Column, Critic, CriticConfig, new_critic
from opentau.value.options import FitOptions, ValueOptions
from opentau.value.table import Bootstraps, ValueTable, assign_folds
from opentau.value.vision_language import take_weights

# Shapes: F frames, B batch, E episodes.


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticFit:
    """How critics are fitted to one table; each fit starts anew from the same weights.

    All processes of `world` make the same calls, and all get the same.
    """

    frames: ValueTable
    inputs: Mapping[str, Column]
    """The feature block's inputs by name, each [F, ...]."""
    config: CriticConfig
    options: ValueOptions
    seed: int
    work_dir: Path
    """Holds the snapshots of interrupted fits."""
    start: Critic | None = None
    """The pre-trained critic; it has not seen the episodes that are labelled. None starts from random weights."""
    events: EventLog | None = None
    stage: str = "value"
    between_updates: Callable[[], None] | None = None
    """Called where nothing is half done; it may wait, or raise to stop."""
    world: World = ALONE
    distribution: DistributionOptions = field(default_factory=DistributionOptions)
    pretrained: Path | None = None
    """A policy's checkpoint to start from, where `start` is None; see `take_weights`."""
    questions: CriticQuestions | None = None
    """What the critic is trained on besides; None for nothing."""
    eligible: np.ndarray | None = None
    """Frames that can be fitted and scored, bool [F]; None for all."""

    def __post_init__(self) -> None:
        if self.start is not None and self.start.config != self.config:
            raise CheckpointError(
                "the critic to start from was made with other options, prompts or policy features; "
                "fit it again on the demonstrations, or start from none"
            )

    @property
    def folds(self) -> np.ndarray:
        """Return which critic of `out_of_fold` scores each episode, int64 [E]."""
        return assign_folds(self.frames, num_folds=self.options.fit.num_folds, seed=self.seed)

    def on_all(self, *, num_done: int = 0, num_total: int | None = None) -> Critic:
        """Return the critic fitted on every episode: the one that supervisors and later fits use."""
        everything = self._rows(np.ones(len(self.frames.table), bool))
        if self._shares_fits or self.world.is_first:
            return self._given(self._fit("all", everything, num_done=num_done, num_total=num_total))
        return self._given(new_critic(self.config, seed=self.seed).to(self.world.device).eval())

    def without_first_fold(self) -> tuple[Critic, np.ndarray]:
        """Return a critic that has not seen the episodes of the first fold, and their frames, rows int64 [F]."""
        num_folds = max(2, self.options.fit.num_folds)
        is_held_out = (assign_folds(self.frames, num_folds=num_folds, seed=self.seed) == 0)[self.frames.table.episode]
        if self._shares_fits or self.world.is_first:
            critic = self._given(self._fit("fold-0", self._rows(~is_held_out), num_done=0, num_total=None))
        else:
            critic = self._given(new_critic(self.config, seed=self.seed).to(self.world.device).eval())
        return critic, self._rows(is_held_out)

    def _rows(self, is_wanted: np.ndarray) -> np.ndarray:
        return np.flatnonzero(is_wanted if self.eligible is None else is_wanted & self.eligible)

    def _given(self, critic: Critic) -> Critic:
        """Return the critic with the weights that the first process has in it."""
        self.world.spread(critic.state_dict().values(), source=0)
        return critic

    def out_of_fold(self, *, num_fits: int) -> np.ndarray:
        """Return V of every frame by a critic that was not fitted on its episode, float32 [F].

        With few episodes a critic memorises each one's return, and the advantages of the episodes it knows vanish.
        `num_fits` is how many fits the stage has in all, for its progress. Each frame is scored once.
        """
        num_updates, num_folds = self.options.fit.num_updates, self.options.fit.num_folds
        fold_of_frame = self.folds[self.frames.table.episode]
        values = np.empty(len(self.frames.table), dtype=np.float32)
        for fold in range(num_folds):
            if not self._shares_fits and self.world.owner(fold) != self.world.rank:
                continue
            is_held_out, num_done = fold_of_frame == fold, fold * num_updates
            critic = self._fit(
                f"fold-{fold}", np.flatnonzero(~is_held_out), num_done=num_done, num_total=num_fits * num_updates
            )
            score = self.scored if self._shares_fits else self._values
            values[is_held_out] = score(critic, np.flatnonzero(is_held_out))
        for fold in () if self._shares_fits else range(num_folds):
            found = torch.from_numpy(values[fold_of_frame == fold])
            self.world.spread([found], source=self.world.owner(fold))
            values[fold_of_frame == fold] = found.numpy()
        return values

    def scored(self, critic: Critic, rows: np.ndarray | None = None) -> np.ndarray:
        """Return V of some frames, rows int64 [F], or of all, float32 [F]: each process scores a part of them."""
        rows = np.arange(len(self.frames.table)) if rows is None else rows
        values = np.empty(len(rows), dtype=np.float32)
        own = Piece(index=self.world.rank, count=self.world.size).rows(len(rows))
        if own.stop > own.start:
            values[own] = self._values(critic, rows[own])
        for rank in range(self.world.size):
            part = Piece(index=rank, count=self.world.size).rows(len(rows))
            found = torch.from_numpy(values[part])
            self.world.spread([found], source=rank)
        return values

    def _values(self, critic: Critic, rows: np.ndarray) -> np.ndarray:
        return critic.values(self.inputs, rows=rows)

    @property
    def _shares_fits(self) -> bool:
        return self.distribution.shares_critics

    def _fit(self, name: str, rows: np.ndarray, *, num_done: int, num_total: int | None) -> Critic:
        seed = derive_seed(self.seed, "critic", name)
        critic = self._initial(rows, seed=seed).to(self.world.device)
        if self.distribution.checkpoint_activations:
            recompute_layers(critic)
        report = None
        if self.events is not None:
            report = TrainReport(events=self.events, stage=self.stage, prefix="value", num_done=num_done, num_total=num_total)
        train(
            critic,
            loss=CriticLoss(
                critic,
                inputs=self.inputs,
                returns=self.frames.returns(takeover=self.options.takeover),
                rows=rows,
                batch_size=self.options.fit.batch_size,
                seed=seed,
                questions=self.questions,
                bootstraps=self._bootstraps,
            ),
            options=train_options(self.options.fit),
            seed=seed,
            work_dir=self.work_dir / name,
            report=report,
            between_updates=self.between_updates,
            world=self.world if self._shares_fits else ALONE,
            distribution=self.distribution if self._shares_fits else DistributionOptions(),
        )
        return critic

    @property
    def _bootstraps(self) -> Bootstraps | None:
        steps = self.options.fit.bootstrap_steps
        return None if steps is None else self.frames.bootstraps(steps, takeover=self.options.takeover)

    def _initial(self, rows: np.ndarray, *, seed: int) -> Critic:
        critic = new_critic(self.config, seed=seed)
        if self.start is not None:
            critic.load_state_dict(self.start.state_dict())
            return critic
        if self.pretrained is not None:
            take_weights(critic.features, self.pretrained)
        critic.features.calibrate(Fitted(self.inputs, rows))
        return critic


@dataclass(frozen=True, slots=True)
class Fitted(Mapping[str, Tensor]):
    """The inputs of the frames to be fitted, each read only if it is asked for."""

    inputs: Mapping[str, Column]
    rows: np.ndarray

    def __getitem__(self, name: str) -> Tensor:
        return torch.tensor(self.inputs[name][self.rows])

    def __iter__(self) -> Iterator[str]:
        return iter(self.inputs)

    def __len__(self) -> int:
        return len(self.inputs)


def train_options(fit: FitOptions) -> TrainOptions:
    """Return the trainer's options for a fit."""
    return TrainOptions(
        num_updates=fit.num_updates,
        batch_size=fit.batch_size,
        learning_rate=fit.learning_rate,
        num_warmup_updates=fit.num_warmup_updates,
        weight_decay=fit.weight_decay,
        ema_decay=fit.ema_decay,
        num_threads=fit.num_threads,
        log_interval=50,
        snapshot_interval=fit.snapshot_interval or fit.num_updates,
        precision=fit.precision,
    )
