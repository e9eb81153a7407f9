"""Fitting the critic: on all episodes for supervisors, and on all folds but one for the values that labels rest on.

With several processes whole fits are dealt out, and everybody gets what each has found: the bits are those of one process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from opentau.errors import CheckpointError
from opentau.events import EventLog
from opentau.training.distribution import ALONE, Loss, Piece, World
from opentau.training.options import TrainOptions
from opentau.training.trainer import TrainReport, train
from opentau.types import derive_seed
from opentau.value.critic import Critic, CriticConfig, new_critic
from opentau.value.options import FitOptions, ValueOptions
from opentau.value.table import ValueTable, assign_folds

# Shapes: F frames, B batch, E episodes.


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticFit:
    """How critics are fitted to one table; each fit starts anew from the same weights.

    All processes of `world` make the same calls, and all get the same.
    """

    frames: ValueTable
    inputs: Mapping[str, np.ndarray]
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

    def __post_init__(self) -> None:
        if self.start is not None and self.start.config != self.config:
            raise CheckpointError(
                "the critic to start from was made with other options, prompts or policy features; "
                "fit it again on the demonstrations, or start from none"
            )

    def on_all(self, *, num_done: int = 0, num_total: int | None = None) -> Critic:
        """Return the critic fitted on every episode: the one that supervisors and later fits use."""
        everything = np.ones(len(self.frames.table), dtype=bool)
        critic = self._fit("all", everything, num_done=num_done, num_total=num_total) if self.world.is_first else self._blank()
        self.world.spread(critic.state_dict().values(), source=0)
        return critic

    def out_of_fold(self, *, num_fits: int) -> np.ndarray:
        """Return V of every frame by a critic that was not fitted on its episode, float32 [F].

        With few episodes a critic memorises each one's return, and the advantages of the episodes it knows vanish.
        `num_fits` is how many fits the stage has in all, for its progress.
        """
        num_updates, num_folds = self.options.fit.num_updates, self.options.fit.num_folds
        fold_of_frame = assign_folds(self.frames, num_folds=num_folds, seed=self.seed)[self.frames.table.episode]
        values = np.empty(len(self.frames.table), dtype=np.float32)
        for fold in range(num_folds):
            if self.world.owner(fold) != self.world.rank:
                continue
            is_held_out = fold_of_frame == fold
            critic = self._fit(f"fold-{fold}", ~is_held_out, num_done=fold * num_updates, num_total=num_fits * num_updates)
            values[is_held_out] = critic.values({name: self.inputs[name][is_held_out] for name in critic.config.inputs})
        for fold in range(num_folds):
            found = torch.from_numpy(values[fold_of_frame == fold])
            self.world.spread([found], source=self.world.owner(fold))
            values[fold_of_frame == fold] = found.numpy()
        return values

    def _fit(self, name: str, is_fitted: np.ndarray, *, num_done: int, num_total: int | None) -> Critic:
        seed = derive_seed(self.seed, "critic", name)
        critic = self._initial(is_fitted, seed=seed)
        report = None
        if self.events is not None:
            report = TrainReport(events=self.events, stage=self.stage, prefix="value", num_done=num_done, num_total=num_total)
        train(
            critic,
            loss=_loss(critic, self.inputs, self.frames, is_fitted=is_fitted, options=self.options, seed=seed),
            options=train_options(self.options.fit),
            seed=seed,
            work_dir=self.work_dir / name,
            report=report,
            between_updates=self.between_updates,
        )
        return critic

    def _blank(self) -> Critic:
        """Return a critic whose weights another process will say."""
        return new_critic(self.config, seed=self.seed).eval()

    def _initial(self, is_fitted: np.ndarray, *, seed: int) -> Critic:
        critic = new_critic(self.config, seed=seed)
        if self.start is not None:
            critic.load_state_dict(self.start.state_dict())
        else:
            critic.features.calibrate({name: torch.tensor(self.inputs[name][is_fitted]) for name in critic.config.inputs})
        return critic


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
        snapshot_interval=fit.num_updates,
    )


def _loss(
    critic: Critic,
    inputs: Mapping[str, np.ndarray],
    frames: ValueTable,
    *,
    is_fitted: np.ndarray,
    options: ValueOptions,
    seed: int,
) -> Loss:
    """Return the critic's loss on frames drawn uniformly, so that its mean is over the states as they are visited.

    Drawing by episode would show the first frames of short successes more often than those of long failures, which start
    from the same states, and flatter the value of every start.
    """
    rows = np.flatnonzero(is_fitted)
    returns = frames.returns(takeover=options.takeover)

    def loss(update: int, piece: Piece) -> tuple[Tensor, dict[str, Tensor]]:
        rng = np.random.default_rng(derive_seed(seed, "batch", update))
        drawn = rows[rng.integers(0, len(rows), size=options.fit.batch_size)]
        chosen = drawn[piece.rows(len(drawn))]
        batch = {name: torch.from_numpy(inputs[name][chosen]) for name in critic.config.inputs}
        return critic.loss(batch, torch.from_numpy(returns[chosen])) * (len(chosen) / len(drawn)), {}

    return loss
