"""What a frozen policy is steered by, and how that is learned: plain options and arrays; no torch."""

# Shapes: N decisions, P features of the policy, S encoded state, A action dimensions.

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from opentau.errors import OptionError


@dataclass(frozen=True, slots=True, kw_only=True)
class DsrlOptions:
    """Soft actor-critic on the noise of a frozen flow policy (DSRL, arXiv:2506.15799), on all episodes so far.

    A decision is a chunk. Each costs the time that it takes, and an episode that fails costs as much again as the longest, as
    the value function has it.
    """

    num_updates: int = 1000
    """Of actor and critics, from fresh ones in every iteration."""
    batch_size: int = 256
    learning_rate: float = 3e-4
    discount: float = 0.99
    num_features: int = 32
    """Principal components of the policy's features that actor and critics read, beside the state."""
    layer_widths: tuple[int, ...] = (128, 128)
    num_critics: int = 4
    """The least of them counts."""
    limit: float = 0.5
    """Largest size of a number that the actor says. Noise that nobody chose has a standard deviation of 1 / sqrt(horizon) in
    the mean, 0.25 for chunks of 16; far beyond that a policy was never trained, nor anything learned of what happens."""
    target_entropy: float = 0.5
    """Nats of each of the actor's numbers over the limit, 0.69 for one that is spread evenly; what soft actor-critic usually
    aims at, -1, leaves noise so narrow that errors of the critics add up over an episode."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer_widths", tuple(self.layer_widths))
        for name in ("num_updates", "batch_size", "num_features", "num_critics"):
            if getattr(self, name) < 1:
                raise OptionError(f"improve.args.{name} is {getattr(self, name)}; it must be at least 1")
        if not self.layer_widths or min(self.layer_widths) < 1:
            raise OptionError(f"improve.args.layer_widths is {list(self.layer_widths)}; name at least one positive width")
        if not 0 < self.discount < 1:
            raise OptionError(f"improve.args.discount is {self.discount}; it must lie between 0 and 1")
        if self.limit <= 0 or self.learning_rate <= 0:
            raise OptionError(
                f"improve.args.limit is {self.limit} and improve.args.learning_rate {self.learning_rate}; both must be positive"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """Chunks that were played, one episode after another in the order of play."""

    features: np.ndarray
    """float32 [N, P], of what the policy saw when it was asked."""
    state: np.ndarray
    """Encoded, float32 [N, S]."""
    mean: np.ndarray
    """Of the noise that each chunk began as, float32 [N, A]."""
    reward: np.ndarray
    """float32 [N]."""
    is_last: np.ndarray
    """Whether the episode ends with it, bool [N]."""

    def __len__(self) -> int:
        return len(self.reward)
