"""The one trainer: updates as a pure function of (seed, update), averaged weights, and resume that is exact to the bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from opentau import events
from opentau.errors import TrainingError
from opentau.events import EventLog
from opentau.runstate import iteration_of
from opentau.training.distribution import ALONE, Loss, Piece, Share, World, clip_gradients
from opentau.training.meter import Meter
from opentau.training.optimizer import build_optimizer
from opentau.training.options import BFLOAT16, DEFAULT_TUNING, DistributionOptions, TrainOptions, TuningOptions
from opentau.training.precision import require_autocast, resolve_precision
from opentau.training.snapshot import Snapshot, newest_snapshot, restore, write_snapshot
from opentau.training.tuning import start_training
from opentau.types import derive_seed


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSummary:
    """What a training leaves beside the weights; equal for equal inputs, however often it was interrupted."""

    num_updates: int
    num_parameters: int
    """Trained ones."""
    num_threads: int
    """torch threads it ran with."""
    precision: str
    """Of the forward pass: 'float32' or 'bfloat16'."""
    num_processes: int = 1
    metrics: Mapping[str, float]
    """The last reported value of every metric."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainReport:
    """Where a training tells how it goes."""

    events: EventLog
    stage: str
    prefix: str = "train"
    """First part of the metric names."""
    num_done: int = 0
    """Updates of the stage that other trainings did before this one."""
    num_total: int | None = None
    """Updates of the whole stage; None for those of this training."""
    meter: Meter = field(default_factory=Meter)

    def metrics(self, update: int, values: Mapping[str, float]) -> None:
        self.events.emit(events.TRAIN_METRICS, stage=self.stage, update=self.num_done + update, metrics=dict(values))

    def progress(self, done: int, total: int) -> None:
        iteration, total = iteration_of(self.stage), self.num_total or total
        done += self.num_done
        self.events.emit(
            events.STAGE_PROGRESS,
            stage=self.stage,
            iteration=iteration,
            done=done,
            total=total,
            unit="updates",
            machine=self.meter.read(done),
        )


def train(
    model: nn.Module,
    *,
    loss: Loss,
    options: TrainOptions,
    seed: int,
    work_dir: Path,
    report: TrainReport | None = None,
    evaluate: Callable[[], Mapping[str, float]] | None = None,
    between_updates: Callable[[], None] | None = None,
    world: World = ALONE,
    distribution: DistributionOptions = DistributionOptions(),
    tuning: TuningOptions = DEFAULT_TUNING,
) -> TrainSummary:
    """Optimise `model` in place and return what to remember; on return it holds the averaged weights, in eval mode.

    Before each update torch is seeded from (seed, update), so that dropout and noise need no saved generator. Snapshots in
    `work_dir` let the same call go on after a kill and end in the same bits. `evaluate` is called on the averaged weights
    with a fixed seed; `between_updates` where nothing is half done: it may wait, or raise to stop. A loss or gradient that
    is not finite raises `TrainingError`.

    All processes of `world` make the same call; each computes its pieces of an update, and all return the same. Only the
    first one reports. A snapshot can be resumed under any other world and distribution. What `tuning` changes of the model
    is the caller's (`opentau.training.tuning`).
    """
    report = report if world.is_first else None
    with _threads(options.num_threads), torch.random.fork_rng():
        training = _Training(
            model,
            loss=loss,
            options=options,
            seed=seed,
            work_dir=work_dir,
            world=world,
            distribution=distribution,
            tuning=tuning,
        )
        training.resume()
        while training.update < options.num_updates:
            if between_updates is not None:
                between_updates()
            training.step()
            training.account(report)
            if evaluate is not None and training.is_due(options.evaluation_interval):
                training.measure(evaluate, report)
            if training.is_due(options.snapshot_interval):
                training.save()
        return training.finish()


class _Training:
    """The state of one training between two updates."""

    def __init__(
        self,
        model: nn.Module,
        *,
        loss: Loss,
        options: TrainOptions,
        seed: int,
        work_dir: Path,
        world: World,
        distribution: DistributionOptions,
        tuning: TuningOptions,
    ) -> None:
        self.model, self.loss, self.options, self.seed = model, loss, options, seed
        self.work_dir, self.world, self.tuning = work_dir, world, tuning
        self.share = Share(model, self._seeded_loss, world=world, options=distribution, num_samples=options.batch_size)
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.optimizer = build_optimizer(dict(model.named_parameters()), options, bits=tuning.optimizer_bits)
        self.averages = {name: p.detach().clone() for name, p in self.parameters.items()} if options.ema_decay else {}
        self.device_type = next(iter(self.parameters.values())).device.type
        self.precision = resolve_precision(options.precision, device_type=self.device_type)
        require_autocast(tuning, precision=self.precision)
        self.update = 0
        self.window: dict[str, list[float]] = {}
        self.metrics: dict[str, float] = {}
        model.zero_grad(set_to_none=True)
        start_training(model)

    def is_due(self, interval: int) -> bool:
        return self.update % interval == 0 or self.update == self.options.num_updates

    def step(self) -> None:
        """Do one update."""
        learning_rate = self.options.learning_rate_at(self.update)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group["multiplier"]
        values = self.share.backward(self.update)
        self._require_finite(values, what="loss")
        norm = clip_gradients(self.parameters, max_norm=self.options.max_gradient_norm)
        self._require_finite(values | {"gradient_norm": norm}, what="gradient")
        self.optimizer.step()
        # Not before the next pass: measurements and snapshots have their memory meanwhile.
        self.optimizer.zero_grad(set_to_none=True)
        self.update += 1
        self._average()
        for name, value in (values | {"gradient_norm": norm, "learning_rate": learning_rate}).items():
            self.window.setdefault(name, []).append(value)

    def _seeded_loss(self, update: int, piece: Piece) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the loss of a piece; all pieces draw the same for the whole."""
        torch.manual_seed(derive_seed(self.seed, "update", update))
        with self._autocast():
            return self.loss(update, piece)

    def _average(self) -> None:
        # The average of a young training follows faster, else its random start would stay in it.
        decay = min(self.options.ema_decay, self.update / (self.update + 10))
        with torch.no_grad():
            for name, average in self.averages.items():
                average.lerp_(self.parameters[name], 1 - decay)

    def _require_finite(self, values: Mapping[str, float], *, what: str) -> None:
        if all(math.isfinite(value) for value in values.values()):
            return
        shown = ", ".join(f"{name} {value:g}" for name, value in values.items())
        raise TrainingError(
            f"the {what} of update {self.update} is not finite ({shown}). Lower learning_rate, "
            "set precision=float32, or look for NaN or huge values in the data."
        )

    def account(self, report: TrainReport | None) -> None:
        """Report the mean of the last updates when a window is full."""
        if not self.is_due(self.options.log_interval):
            return
        prefix = f"{report.prefix if report is not None else 'train'}/"
        means = {
            name if "/" in name else prefix + name: math.fsum(values) / len(values) for name, values in self.window.items()
        }
        self.metrics |= means
        self.window = {}
        if report is not None:
            report.metrics(self.update, means)
            report.progress(self.update, self.options.num_updates)

    def measure(self, evaluate: Callable[[], Mapping[str, float]], report: TrainReport | None) -> None:
        """Evaluate the averaged weights; the draws are the same every time, so that only the weights make a difference."""
        torch.manual_seed(derive_seed(self.seed, "evaluate"))
        self.model.eval()
        with self._swapped_averages(), self.share.gathered(), torch.no_grad(), self._autocast():
            measured = dict(evaluate())
        start_training(self.model)
        self.metrics |= measured
        if report is not None and measured:
            report.metrics(self.update, measured)

    def save(self) -> None:
        """Write a snapshot and drop the one before it."""
        write_snapshot(self.work_dir, self._snapshot(), world=self.world)

    def resume(self) -> None:
        """Continue from the newest snapshot of the work directory, if there is one."""
        snapshot = newest_snapshot(self.work_dir, identity=self._identity())
        self.world.require_same(snapshot.update if snapshot else 0, what="the update that they resume from")
        if snapshot is None:
            return
        own = self._snapshot()
        if own.tensors.keys() != snapshot.tensors.keys():
            names = sorted(own.tensors.keys() ^ snapshot.tensors.keys())
            raise TrainingError(
                f"the snapshot in {self.work_dir} is of another model: {names[0]} is in one of them only. Delete it."
            )
        restore(own.tensors, stored=snapshot.tensors)
        self.update, self.window, self.metrics = snapshot.update, dict(snapshot.window), dict(snapshot.metrics)

    def _snapshot(self) -> Snapshot:
        """Return views of everything that the next update depends on; writing into the tensors restores them."""
        names = dict(self.model.named_parameters())
        buffers = {name: tensor for name, tensor in self.model.state_dict().items() if name not in names}
        tensors = {f"weight.{name}": p.detach() for name, p in self.parameters.items()}
        tensors |= {f"buffer.{name}": tensor for name, tensor in buffers.items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.averages.items()}
        for name, parameter in self.parameters.items():
            moments = self.optimizer.state[parameter]
            tensors |= {f"optimizer.{key}.{name}": tensor for key, tensor in moments.items()}
        return Snapshot(
            update=self.update, identity=self._identity(), tensors=tensors, window=self.window, metrics=self.metrics
        )

    def _identity(self) -> dict[str, object]:
        """Return what the weights depend on; how often a training reports, measures or saves is no part of it."""
        intervals = ("log_interval", "evaluation_interval", "snapshot_interval")
        options = {name: getattr(self.options, name) for name in self.options.__slots__ if name not in intervals}
        options["learning_rate_multipliers"] = dict(self.options.learning_rate_multipliers)
        options["precision"] = self.precision
        options |= {f"tuning.{name}": value for name, value in self.tuning.to_dict().items()}
        return {"seed": self.seed, "num_threads": torch.get_num_threads(), "options": options}

    def finish(self) -> TrainSummary:
        """Leave the averaged weights in the model."""
        with torch.no_grad():
            for name, average in self.averages.items():
                self.parameters[name].copy_(average)
        self.share.release(self.model)
        self.model.eval()
        return TrainSummary(
            num_updates=self.update,
            num_parameters=sum(p.numel() for p in self.parameters.values()),
            num_threads=torch.get_num_threads(),
            precision=self.precision,
            num_processes=self.world.size,
            metrics=self.metrics,
        )

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device_type, dtype=torch.bfloat16, enabled=self.precision == BFLOAT16)

    @contextmanager
    def _swapped_averages(self) -> Iterator[None]:
        self._swap_averages()
        try:
            yield
        finally:
            self._swap_averages()

    @torch.no_grad()
    def _swap_averages(self) -> None:
        """Exchange weights and averages, one at a time, so that no more than one is held twice."""
        for name, average in self.averages.items():
            weight = self.parameters[name].clone()
            self.parameters[name].copy_(average)
            average.copy_(weight)


@contextmanager
def _threads(num_threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
