"""The noise that chunks begin as: drawn from seeds, and moved by an actor where a policy is steered."""

# Shapes: B observations, P features of the policy, S encoded state, K numbers that the actor reads, H actions of a chunk, A
# action dimensions of the robot.

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from opentau.errors import CheckpointError
from opentau.policies.weights import load_weights, save_weights
from opentau.types import derive_seed

ACTOR_FILE = "noise_actor.safetensors"
"""Beside the weights of a steered policy."""
LOG_STD_RANGE = (-20.0, 2.0)
"""Of stable-baselines3's actor."""


def seeded_noise(shape: tuple[int, int], *, episode_seed: int, tick: int, candidate: int = 0) -> np.ndarray:
    """Return standard normal noise [H, A] as a function of an episode's seed and a tick; the first candidate's by default."""
    further = (candidate,) if candidate else ()
    rng = np.random.default_rng(derive_seed(episode_seed, "noise", tick, *further))
    return rng.standard_normal(shape, dtype=np.float32)


def seeded_draw(num_dims: int, *, episode_seed: int, tick: int) -> np.ndarray:
    """Return what an actor draws with, standard normal [A]."""
    return np.random.default_rng(derive_seed(episode_seed, "steer", tick)).standard_normal(num_dims, dtype=np.float32)


def moved(noise_BHA: Tensor, mean_BA: Tensor) -> Tensor:
    """Return noise whose mean over the chunk is the given one in the first dimensions; the rest of it stays."""
    num_dims = mean_BA.shape[-1]
    own_BHA = noise_BHA[..., :num_dims]
    own_BHA = own_BHA - own_BHA.mean(dim=1, keepdim=True) + mean_BA[:, None]
    return torch.cat([own_BHA, noise_BHA[..., num_dims:]], dim=-1)


class NoiseActor(nn.Module):
    """Says what the noise of a chunk is in the mean: a squashed Gaussian on few numbers of what the policy sees.

    DSRL (arXiv:2506.15799) steers a frozen policy by choosing its noise, one vector for the whole chunk. Here the vector is
    the mean over the chunk, and the seeded rest stays: so noise that nobody chose has such a vector as well, and episodes of
    the policy as it was are experience to learn from.
    """

    def __init__(self, *, num_features: int, num_read: int, state_dim: int, action_dim: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(num_features))
        self.register_buffer("projection", torch.zeros(num_features, num_read))
        self.register_buffer("limit", torch.ones(()))
        sizes = [num_read + state_dim, *widths]
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in itertools.pairwise(sizes))
        self.mean = nn.Linear(sizes[-1], action_dim)
        self.log_std = nn.Linear(sizes[-1], action_dim)

    centre: Tensor
    projection: Tensor
    """Of the features, scaled so that each number that is read has a variance of 1; float32 [P, K]."""
    limit: Tensor
    """Largest size of a number that the actor says."""

    def read(self, features_BP: Tensor, state_BS: Tensor) -> Tensor:
        """Return what the networks read, float32 [B, K + S]."""
        return torch.cat([(features_BP - self.centre) @ self.projection, state_BS], dim=-1)

    def forward(self, read_BR: Tensor, draw_BA: Tensor) -> Tensor:
        """Return the mean of the noise [B, A] for standard normal draws [B, A]; zeros give the most likely one."""
        hidden = read_BR
        for layer in self.layers:
            hidden = torch.relu(layer(hidden))
        std_BA = self.log_std(hidden).clamp(*LOG_STD_RANGE).exp()
        return self.limit * torch.tanh(self.mean(hidden) + std_BA * draw_BA)

    def save(self, directory: Path) -> None:
        """Write it into a policy's directory."""
        save_weights(directory / ACTOR_FILE, self.state_dict())

    @classmethod
    def load(cls, directory: Path) -> NoiseActor | None:
        """Read the actor of a policy's directory, None where it is not steered; a damaged one raises `CheckpointError`."""
        path = directory / ACTOR_FILE
        if not path.is_file():
            return None
        try:
            weights = load_weights(path)
            num_features, num_read = weights["projection"].shape
            widths = [len(weights[name]) for name in sorted(weights) if name.startswith("layers.") and name.endswith(".bias")]
            first = weights["layers.0.weight"].shape[1] if widths else weights["mean.weight"].shape[1]
            actor = cls(
                num_features=num_features,
                num_read=num_read,
                state_dim=first - num_read,
                action_dim=len(weights["mean.bias"]),
                widths=widths,
            )
            actor.load_state_dict(weights)
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"{path} is no actor of a steered policy ({error}); steer the policy again") from error
        return actor.eval()
