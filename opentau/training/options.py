"""How training is done, as plain options; no torch, so that a command can check them before anything heavy loads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from opentau.errors import OptionError, near_matches

AUTO, FLOAT32, BFLOAT16 = "auto", "float32", "bfloat16"
PRECISIONS = (AUTO, FLOAT32, BFLOAT16)
DDP, FSDP = "ddp", "fsdp"
STRATEGIES = (DDP, FSDP)
OPTIMIZER_BITS = (32, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributionOptions:
    """How an update is spread over the processes that torchrun starts, and over time; what it computes is the same."""

    strategy: str = DDP
    """With several processes: 'ddp' holds all weights in each, 'fsdp' shards weights, gradients, averages and moments."""
    accumulation: int = 1
    """Pieces in which a process does its samples of an update, one after another; more need less memory at a time."""
    checkpoint_activations: bool = False
    """Whether the backward pass computes every layer once more instead of keeping what is inside it (arXiv:1604.06174)."""
    shares_critics: bool = False
    """Whether a critic's fits are spread like a policy's trainings, over processes and pieces: for one that is too large or too
    slow for a device. By default whole fits are dealt out, which gives the bits of one process."""
    memory_gb: float | None = None
    """What a process may take, of a GPU or of the machine; null for what is free, 0 for no check before a training loads."""

    def __post_init__(self) -> None:
        if self.memory_gb is not None and self.memory_gb < 0:
            raise OptionError(f"training.memory_gb is {self.memory_gb}; it must be at least 0, or null for what is free")
        if self.strategy not in STRATEGIES:
            raise OptionError(f"unknown training.strategy {self.strategy!r}.{near_matches(self.strategy, STRATEGIES)}")
        if self.accumulation < 1:
            raise OptionError(f"training.accumulation is {self.accumulation}; it must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterOptions:
    """Low-rank adapters (LoRA, arXiv:2106.09685) that are trained in place of linear layers."""

    layers: str
    """Pattern of the layers' names, such as 'backbone.*'."""
    rank: int
    """0 leaves layers as they are that an earlier pattern would adapt."""
    scale: float = 1.0
    """What the adapters are multiplied by: LoRA's alpha / rank."""

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise OptionError(f"tuning.adapt: the rank of {self.layers!r} is {self.rank}; it must be at least 0")
        if self.scale <= 0:
            raise OptionError(f"tuning.adapt: the scale of {self.layers!r} is {self.scale}; it must be greater than 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningOptions:
    """Which weights a training changes, and how closely it keeps the rest; all of them by default."""

    freeze: tuple[str, ...] = ()
    """Patterns of parameter names, such as 'vision.*', that stay as they are."""
    adapt: tuple[AdapterOptions, ...] = ()
    """Layers that get adapters, and stay themselves; of several patterns that match, the last one counts."""
    frozen_precision: str = FLOAT32
    """Of the matrices that are not trained: 'float32', or 'bfloat16' for half of their memory."""
    optimizer_bits: int = 32
    """Of each of the optimiser's two numbers per trained weight: 32, or 8 in blocks (arXiv:2110.02861)."""

    def __post_init__(self) -> None:
        if self.frozen_precision not in (FLOAT32, BFLOAT16):
            raise OptionError(f"tuning.frozen_precision is {self.frozen_precision!r}; choose '{FLOAT32}' or '{BFLOAT16}'")
        if self.optimizer_bits not in OPTIMIZER_BITS:
            raise OptionError(f"tuning.optimizer_bits is {self.optimizer_bits}; choose 32 or 8")

    def to_dict(self) -> dict[str, Any]:
        """Return what is not as by default: what a training's identity holds of it."""
        return {name: value for name, value in asdict(self).items() if value != getattr(DEFAULT_TUNING, name)}


DEFAULT_TUNING = TuningOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """How a model is optimised; everything is counted in updates, nothing in seconds."""

    num_updates: int = 800
    batch_size: int = 64
    """Samples per update; the loss draws them."""
    learning_rate: float = 6e-4
    final_learning_rate_share: float = 0.05
    """The learning rate decays to this share of its peak along a cosine."""
    num_warmup_updates: int = 100
    learning_rate_multipliers: Mapping[str, float] = field(default_factory=dict)
    """Pattern of parameter names, such as '*indicator*', to a multiple of the learning rate."""
    weight_decay: float = 1e-4
    """Decoupled, on matrices only: biases, gains and other vectors are left alone."""
    beta1: float = 0.9
    beta2: float = 0.95
    max_gradient_norm: float = 1.0
    ema_decay: float = 0.99
    """Of the exponential average of the weights; 0 keeps the last weights."""
    precision: str = FLOAT32
    """Of the forward pass: 'float32', 'bfloat16' by autocast, or 'auto' for bfloat16 where the processor multiplies in it;
    weights and optimiser stay float32."""
    num_threads: int = 0
    """torch threads during training; 0 leaves them. Results are equal to the bit for equal numbers only."""
    log_interval: int = 20
    """Updates averaged in each report."""
    evaluation_interval: int = 200
    """Updates between measurements on held-out data."""
    snapshot_interval: int = 100
    """Updates that a kill can cost."""

    def __post_init__(self) -> None:
        counts = ("num_updates", "batch_size", "log_interval", "evaluation_interval", "snapshot_interval")
        for name in counts:
            if getattr(self, name) < 1:
                raise OptionError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.precision not in PRECISIONS:
            raise OptionError(f"unknown precision {self.precision!r}.{near_matches(self.precision, PRECISIONS)}")
        if not 0 <= self.ema_decay < 1:
            raise OptionError(f"ema_decay is {self.ema_decay}; it must lie in [0, 1)")

    def learning_rate_at(self, update: int) -> float:
        """Return the learning rate of an update: linear warm-up, then a cosine down to the final share."""
        warmup = min(1.0, (update + 1) / (self.num_warmup_updates + 1))
        cosine = 0.5 * (1 + math.cos(math.pi * update / self.num_updates))
        return self.learning_rate * warmup * (self.final_learning_rate_share + (1 - self.final_learning_rate_share) * cosine)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveOptions:
    """Weights and switches of the policy loss."""

    flow_weight: float = 1.0
    """Weight of the flow-matching loss."""
    fast_weight: float = 0.0
    """Weight of the cross-entropy of action tokens; 0 leaves them out."""
    text_weight: float = 1.0
    """Weight of the cross-entropy of answers, where the data has questions."""
    is_insulated: bool = False
    """Whether the expert's loss stays out of the backbone (knowledge insulation, arXiv:2505.23705)."""
    num_noise_draws: int = 2
    """Noise and time draws per observation; the observation is read once."""
    indicator_dropout: float = 0.3
    """Share of samples whose indicator is withheld, which is what guidance needs (π*0.6)."""

    def __post_init__(self) -> None:
        if self.num_noise_draws < 1:
            raise OptionError(f"num_noise_draws is {self.num_noise_draws}; it must be at least 1")
        if not 0.0 <= self.indicator_dropout <= 1.0:
            raise OptionError(f"indicator_dropout is {self.indicator_dropout}; it must lie in [0, 1]")
        if self.text_weight < 0:
            raise OptionError(f"text_weight is {self.text_weight}; it must be at least 0")
        if self.flow_weight < 0 or self.fast_weight < 0 or self.flow_weight + self.fast_weight == 0:
            raise OptionError(
                f"flow_weight is {self.flow_weight} and fast_weight {self.fast_weight}; neither may be negative, nor both 0"
            )
        if self.is_insulated and not self.fast_weight:
            raise OptionError(
                "is_insulated is true and fast_weight 0: nothing would train the backbone; "
                "set fast_weight=1 or is_insulated=false"
            )
