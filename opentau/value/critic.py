"""The critic: a distributional value function of what the policy sees, and its checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from opentau.checkpoint import write_json
from opentau.config import build, locate, options_from, plain_from
from opentau.errors import CheckpointError
from opentau.value.bins import expected_value, target_distribution
from opentau.value.features import FeatureBlock, InputSizes
from opentau.value.options import MINIMUM, CriticOptions

# Shapes: B batch, F frames, M members of an ensemble, N bins.

WEIGHTS_FILE = "critic.safetensors"
CONFIG_FILE = "critic.json"


class Column(Protocol):
    """One input of a critic for many frames: an array, or what reads them when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        """Return [B, ...] at rows int64 [B]."""
        ...


def block_inputs(options: CriticOptions) -> tuple[str, ...]:
    """Return the names of the arrays that the feature block reads."""
    return cast(type[FeatureBlock], locate(options.features["target"])).inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticConfig:
    """What a critic is made of; with the weights, a whole checkpoint."""

    options: CriticOptions
    sizes: InputSizes
    prompts: tuple[str, ...]
    """Prompts seen in fitting, in the order of their embedding."""
    policy_version: str
    """Checkpoint of the policy whose frozen features are inputs; empty where the block needs none."""

    def prompt_index(self, prompts: Sequence[str]) -> np.ndarray:
        """Return int64 [B]; -1 for a prompt not seen in fitting."""
        known = {prompt: index for index, prompt in enumerate(self.prompts)}
        return np.array([known.get(prompt, -1) for prompt in prompts], dtype=np.int64)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the names of the arrays that the feature block reads."""
        return block_inputs(self.options)

    def to_dict(self) -> dict[str, Any]:
        return cast(dict[str, Any], plain_from(self))

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> CriticConfig:
        return options_from(cls, plain, where="critic")


class Critic(nn.Module):
    """A feature block and a head over the bins of [-1, 0], or several heads that make an ensemble."""

    def __init__(self, config: CriticConfig) -> None:
        super().__init__()
        self.config = config
        options = config.options
        self.features: FeatureBlock = build(options.features, sizes=config.sizes)
        self.head = _head(self.features.width, options)
        self.further_heads = nn.ModuleList(_head(self.features.width, options) for _ in range(options.num_members - 1))

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return each member's logits over the bins, float32 [M, B, N]."""
        seen_BW = self.features(inputs)
        return torch.stack([head(seen_BW) for head in (self.head, *self.further_heads)])

    def value(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return V, float32 [B] in [-1, 0]."""
        value_MB = expected_value(self(inputs))
        return value_MB.amin(dim=0) if self.config.options.combined_by == MINIMUM else value_MB.mean(dim=0)

    def loss(self, inputs: Mapping[str, Tensor], returns_B: Tensor) -> Tensor:
        """Return the cross-entropy between the returns' distributions and the predicted ones (π*0.6, equation 1).

        Of an ensemble it is the mean over its members.
        """
        options = self.config.options
        target_BN = target_distribution(returns_B, kind=options.target, num_bins=options.num_bins, sigma=options.hl_gauss_sigma)
        losses = [nn.functional.cross_entropy(logits_BN, target_BN) for logits_BN in self(inputs)]
        return torch.stack(losses).mean()

    @torch.no_grad()
    def values(self, inputs: Mapping[str, Column], *, rows: np.ndarray | None = None) -> np.ndarray:
        """Return V of some frames, rows int64 [F], or of all, float32 [F] in [-1, 0]; each is read once, in that order."""
        was_training = self.training
        self.eval()
        if rows is None:
            rows = np.arange(len(next(iter(inputs.values()))))
        at_once = self.features.frames_at_once
        pieces = [rows[start : start + at_once] for start in range(0, len(rows), at_once)]
        device = next(self.parameters()).device
        chunks = [
            self.value({name: torch.tensor(inputs[name][piece], device=device) for name in self.config.inputs})
            for piece in pieces
        ]
        self.train(was_training)
        return torch.cat(chunks).clamp(-1.0, 0.0).cpu().numpy()


def _head(width: int, options: CriticOptions) -> nn.Sequential:
    return nn.Sequential(
        nn.Dropout(options.dropout),
        nn.Linear(width, options.hidden_dim),
        nn.LayerNorm(options.hidden_dim),
        nn.GELU(),
        nn.Dropout(options.dropout),
        nn.Linear(options.hidden_dim, options.num_bins),
    )


def new_critic(config: CriticConfig, *, seed: int) -> Critic:
    """Return a critic with random weights that depend on `seed` alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Critic(config)


def save_critic(critic: Critic, directory: Path) -> None:
    """Write weights and configuration into a directory that is being built."""
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / CONFIG_FILE, critic.config.to_dict())
    (directory / WEIGHTS_FILE).write_bytes(
        save({name: tensor.cpu().contiguous() for name, tensor in critic.state_dict().items()})
    )


def load_critic(directory: Path) -> Critic:
    """Return the critic of a checkpoint in eval mode; missing or foreign weights raise `CheckpointError`."""
    try:
        config = CriticConfig.from_dict(json.loads((directory / CONFIG_FILE).read_text()))
        with torch.device("meta"):
            critic = Critic(config)
        # Copies lie on the allocator's boundaries; in a file they do not, and there equal weights give other last bits.
        weights = {name: tensor.clone() for name, tensor in load_file(directory / WEIGHTS_FILE).items()}
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{directory} holds no critic: {error.filename} is missing. Point to the output of a value stage."
        ) from error
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"the critic in {directory} is damaged ({error}). Delete it and resume the run.") from error
    if weights.keys() != critic.state_dict().keys():
        names = sorted(weights.keys() ^ critic.state_dict().keys())
        raise CheckpointError(f"the weights in {directory} are of another critic: {names[0]} is in one of them only")
    critic.load_state_dict(weights, assign=True)
    return critic.eval()
