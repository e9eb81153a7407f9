"""DSRL (arXiv:2506.15799): stable-baselines3's SAC learns what the noise of a frozen policy should be."""

# Shapes: N decisions, P features of the policy, K components that are read, S encoded state, A action dimensions.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.logger import Logger
from torch import nn

from opentau.errors import TrainingError
from opentau.policies.noise import NoiseActor
from opentau.training.dsrl_options import Decisions, DsrlOptions
from opentau.types import derive_seed

UPDATES_AT_ONCE = 100
FIRST_ENTROPY_WEIGHT = "auto_0.1"
"""It is learned from there."""
LEAST_SPREAD = 1e-4
"""Components that vary less, as a share of the first, are noise of the arithmetic."""

OnUpdates = Callable[[int, dict[str, float]], None]
"""Called with the updates done and what they measured."""


def train_noise_actor(decisions: Decisions, options: DsrlOptions, *, seed: int, on_updates: OnUpdates) -> NoiseActor:
    """Return an actor fitted on these decisions; a function of them and the seed on one thread."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng():
            return _train(decisions, options, seed=seed, on_updates=on_updates)
    finally:
        torch.set_num_threads(num_threads)


def _train(decisions: Decisions, options: DsrlOptions, *, seed: int, on_updates: OnUpdates) -> NoiseActor:
    actor = _reading(decisions, options)
    with torch.no_grad():
        read_NR = actor.read(torch.from_numpy(decisions.features), torch.from_numpy(decisions.state)).numpy()
    model = _learner(read_NR.shape[1], decisions.mean.shape[1], options, size=len(decisions), seed=seed)
    buffer = model.replay_buffer
    assert buffer is not None
    said_NA = np.clip(decisions.mean / options.limit, -1.0, 1.0)
    for number in range(len(decisions)):
        is_last = bool(decisions.is_last[number])
        after = read_NR[number if is_last else number + 1]  # nothing follows the last one, so its value is not asked for
        told = np.array([decisions.reward[number]]), np.array([is_last])
        buffer.add(read_NR[number][None], after[None], said_NA[number][None], *told, [{}])
    done = 0
    while done < options.num_updates:
        steps = min(UPDATES_AT_ONCE, options.num_updates - done)
        model.train(gradient_steps=steps, batch_size=options.batch_size)
        done += steps
        measured = model.logger.name_to_value
        on_updates(done, {name: float(measured[f"train/{name}"]) for name in ("critic_loss", "actor_loss", "ent_coef")})
    _take(actor, model)
    if not all(bool(torch.isfinite(parameter).all()) for parameter in actor.parameters()):
        raise TrainingError(
            f"the noise actor is not finite after {done} updates; lower improve.args.learning_rate ({options.learning_rate})"
        )
    return actor.eval()


def _reading(decisions: Decisions, options: DsrlOptions) -> NoiseActor:
    """Return an untrained actor that reads the principal components of the features, each with a variance of 1."""
    num_features = decisions.features.shape[1]
    centre_P = decisions.features.mean(axis=0, dtype=np.float64)
    _, spread, directions = np.linalg.svd(decisions.features - centre_P, full_matrices=False)
    kept = min(options.num_features, int((spread > LEAST_SPREAD * spread[0]).sum()))
    scale_K = np.sqrt(len(decisions)) / spread[:kept]
    actor = NoiseActor(
        num_features=num_features,
        num_read=kept,
        state_dim=decisions.state.shape[1],
        action_dim=decisions.mean.shape[1],
        widths=options.layer_widths,
    )
    actor.centre.copy_(torch.from_numpy(centre_P))
    actor.projection.copy_(torch.from_numpy(directions[:kept].T * scale_K))
    actor.limit.fill_(options.limit)
    return actor


def _learner(num_read: int, num_dims: int, options: DsrlOptions, *, size: int, seed: int) -> SAC:
    """Return stable-baselines3's algorithm with room for as many decisions, on one thread of the CPU."""
    model = SAC(
        "MlpPolicy",
        _Spaces(num_read, num_dims),
        buffer_size=size,
        learning_rate=options.learning_rate,
        batch_size=options.batch_size,
        gamma=options.discount,
        ent_coef=FIRST_ENTROPY_WEIGHT,
        target_entropy=options.target_entropy * num_dims,
        policy_kwargs={"net_arch": list(options.layer_widths), "n_critics": options.num_critics},
        seed=derive_seed(seed, "algorithm") % 2**31,
        device="cpu",
    )
    model.set_logger(Logger(None, []))
    return model


class _Spaces(gymnasium.Env[np.ndarray, np.ndarray]):
    """Tells the algorithm the sizes; episodes are played elsewhere."""

    def __init__(self, num_read: int, num_dims: int) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (num_read,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (num_dims,), np.float32)


def _take(actor: NoiseActor, model: SAC) -> None:
    """Copy the weights of stable-baselines3's actor."""
    theirs: Any = model.policy.actor
    hidden = [module for module in theirs.latent_pi if isinstance(module, nn.Linear)]
    for ours, their in zip([*actor.layers, actor.mean, actor.log_std], [*hidden, theirs.mu, theirs.log_std], strict=True):
        ours.load_state_dict(their.state_dict())
