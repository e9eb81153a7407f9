"""The options of value function and labels; no torch, so that a command can check them before anything heavy loads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from opentau.config import later
from opentau.errors import OptionError, near_matches

TAKEOVER_FAIL, TAKEOVER_ACTUAL = "fail", "actual"
TAKEOVERS = (TAKEOVER_FAIL, TAKEOVER_ACTUAL)
PRECISIONS = ("auto", "float32", "bfloat16")

MINIMUM, MEAN = "minimum", "mean"
"""What an ensemble's members come to."""
COMBINATIONS = (MINIMUM, MEAN)

FROZEN_POLICY = "opentau.value.features:FrozenPolicyFeatures"


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticOptions:
    """The distributional value function: a feature block and a head over the bins of [-1, 0]."""

    num_bins: int = 201
    target: str = "hl_gauss"
    """Distribution that stands for a return: 'hl_gauss', 'two_hot' or 'one_hot'."""
    hl_gauss_sigma: float = 0.75
    """Standard deviation of 'hl_gauss', in bins."""
    features: Mapping[str, Any] = field(default_factory=lambda: {"target": FROZEN_POLICY, "args": {}})
    """The feature block as a plug-in; it is built with `sizes`."""
    hidden_dim: int = 256
    """Width of the head's hidden layer."""
    dropout: float = 0.1
    num_members: int = later(1)
    """Heads of an ensemble, each with weights and dropout of its own, on features that they share."""
    combined_by: str = later(MINIMUM)
    """The value of an ensemble: 'minimum' of its members', which doubts what they do not agree on, or 'mean'."""

    def __post_init__(self) -> None:
        if self.num_members < 1:
            raise OptionError(f"value.critic.num_members is {self.num_members}; use 1, or more for an ensemble")
        if self.combined_by not in COMBINATIONS:
            raise OptionError(
                f"unknown value.critic.combined_by {self.combined_by!r}.{near_matches(self.combined_by, COMBINATIONS)}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class FitOptions:
    """How the critic is fitted, for every fold alike."""

    num_folds: int = 4
    """Each episode is labelled by a critic that was fitted on the other folds; 1 labels by one fitted on all of them."""
    num_updates: int = 300
    batch_size: int = 256
    learning_rate: float = 1e-3
    num_warmup_updates: int = 20
    weight_decay: float = 0.05
    ema_decay: float = 0.98
    num_threads: int = 0
    """torch threads; 0 leaves them."""
    precision: str = later("float32")
    """Of the forward pass, as for policies: 'float32', 'bfloat16' or 'auto'."""
    snapshot_interval: int | None = later(None)
    """Updates that a kill can cost; null takes no snapshot before a fit's end."""
    bootstrap_steps: int | None = later(None)
    """Control ticks n of the n-step returns that it is fitted to: what n steps cost, then its own value. Null fits to what came
    of the episode (Monte Carlo), as the paper does."""
    num_questions: int = later(8)
    """Questions of an update beside its frames, where `value.text_weight` is not 0."""

    def __post_init__(self) -> None:
        if self.num_folds < 1:
            raise OptionError(
                f"value.fit.num_folds is {self.num_folds}; use 2 or more, or 1 for labels that are not out of fold"
            )
        if self.precision not in PRECISIONS:
            raise OptionError(f"unknown value.fit.precision {self.precision!r}.{near_matches(self.precision, PRECISIONS)}")
        if self.snapshot_interval is not None and self.snapshot_interval < 1:
            raise OptionError(f"value.fit.snapshot_interval is {self.snapshot_interval}; use at least 1, or null for none")
        if self.bootstrap_steps is not None and self.bootstrap_steps < 1:
            raise OptionError(
                f"value.fit.bootstrap_steps is {self.bootstrap_steps}; use at least 1 control tick, or null for whole returns"
            )
        if self.num_questions < 1:
            raise OptionError(f"value.fit.num_questions is {self.num_questions}; it must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelOptions:
    """How advantages become indicators (π*0.6, arXiv:2511.14759, appendix F)."""

    positive_share: float = 0.4
    """Share of a task's newest autonomous frames that are labelled positive."""
    min_threshold: float | None = None
    """The threshold is never below this: with 0 only frames that went better than expected are positive."""
    fast_positive_share: float = 0.1
    """The share for a task that succeeds already: what is left to learn there is speed."""
    high_success: float = 0.9
    """Success rate of a task's newest episodes from which on `fast_positive_share` holds."""
    demonstration_share: float | None = later(None)
    """Share of each task's demonstrated frames that are positive in iteration 0, by what came of them to the episode's end; the
    policy is then pre-trained with its indicator. The paper takes 0.3; null: all are positive, nothing is trained again."""

    def __post_init__(self) -> None:
        for name in ("positive_share", "fast_positive_share", "demonstration_share"):
            if getattr(self, name) is not None and not 0 < getattr(self, name) < 1:
                raise OptionError(f"value.labels.{name} is {getattr(self, name)}; it must lie between 0 and 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueOptions:
    """Everything between episodes and their labels."""

    lookahead: int | None = 15
    """Control ticks n of the n-step advantage; null looks to the end of the episode, realised return minus value."""
    takeover: str = TAKEOVER_FAIL
    """What an autonomous stretch that ends in a takeover counts as: 'fail', or 'actual' for how the episode ended."""
    pretrained: str | None = later(None)
    """A policy's checkpoint, from whose tower, words and backbone a vision-language critic starts; null for random weights."""
    text_weight: float = later(0.0)
    """Weight of the cross-entropy of answers to the mixture's questions, on which a vision-language critic can be trained as
    well, so that it does not memorise its episodes."""
    scores_chunks: bool = later(False)
    """Whether a critic of observation and chunk is fitted besides, by which `inference.chosen_by=value` chooses."""
    critic: CriticOptions = field(default_factory=CriticOptions)
    fit: FitOptions = field(default_factory=FitOptions)
    labels: LabelOptions = field(default_factory=LabelOptions)

    def __post_init__(self) -> None:
        if self.lookahead is not None and self.lookahead < 1:
            raise OptionError(
                f"value.lookahead is {self.lookahead}; use at least 1 control tick, or null for the whole episode"
            )
        if self.text_weight < 0:
            raise OptionError(f"value.text_weight is {self.text_weight}; it must be at least 0")
        if self.takeover not in TAKEOVERS:
            raise OptionError(f"unknown value.takeover {self.takeover!r}.{near_matches(self.takeover, TAKEOVERS)}")
