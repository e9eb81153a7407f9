"""Trains an expert on privileged state with stable-baselines3 and hands its actor over as plain arrays."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from torch import nn

from opentau.config import build, locate
from opentau.training.expert_env import STATE_LIMIT, SUCCESS, ExpertEnv, SeedPlayer
from opentau.training.expert_options import SAC as IS_SAC
from opentau.training.expert_options import ExpertOptions
from opentau.types import derive_seed

# Shapes: P numbers of the privileged state, D action dimensions that are learned.

ACTOR, FACTS = "envs.experts.learned:Actor", "envs.experts.learned:ActorFacts"
"""The file's format; named and not imported, because `envs` lies beside the core."""

OnProgress = Callable[[int, int, str], None]
"""Called with decisions made, the most there will be, and a note."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedExpert:
    """What came of a training."""

    num_decisions: int
    """Decisions made, seed episodes included."""
    num_updates: int
    checks: tuple[tuple[int, float], ...]
    """(decisions, share of the check's episodes that succeeded)."""


def train_expert(
    env_spec: Mapping[str, Any], options: ExpertOptions, *, seed: int, path: Path, on_progress: OnProgress
) -> TrainedExpert:
    """Train within the budget and leave the best expert so far in `path`, from the first check on.

    Raises OptionError where the environment has no dense reward or lacks an action of the options.
    """
    torch.set_num_threads(1)
    env = ExpertEnv(build(env_spec), options, seed=seed, purpose="train")
    check_env = ExpertEnv(build(env_spec), options, seed=seed, purpose="check")
    try:
        transitions = _play_seed(env, options, seed=seed)
        check_env.mean, check_env.scale = env.mean, env.scale
        model = make_model(env, options, seed=seed)
        training = _Training(model, check_env, options, seed=seed, path=path, on_progress=on_progress)
        if options.algorithm == IS_SAC:
            training.seed_transitions = transitions
        left = max(options.num_decisions - training.num_seed_decisions, 1)
        model.learn(left, callback=training)
        training.check()
    finally:
        env.env.close()
        check_env.env.close()
    return TrainedExpert(
        num_decisions=training.num_seed_decisions + model.num_timesteps,
        num_updates=int(model._n_updates),
        checks=tuple(training.checks),
    )


def actor_of(model: BaseAlgorithm, env: ExpertEnv, options: ExpertOptions) -> Any:
    """Return the deterministic part of a policy as an `envs.experts.learned.Actor`."""
    policy: Any = model.policy  # torch calls every part of a module 'Tensor | Module'
    if options.algorithm == IS_SAC:
        modules: Sequence[nn.Module] = [*policy.actor.latent_pi, policy.actor.mu]
    else:
        modules = [*policy.mlp_extractor.policy_net, policy.action_net]
    linear = [module for module in modules if isinstance(module, nn.Linear)]
    is_sac = options.algorithm == IS_SAC
    facts = locate(FACTS)(
        state_names=env.state_names,
        actions=env.actions,
        action_repeat=options.action_repeat,
        activation="relu" if is_sac else "tanh",
        is_squashed=is_sac,
        task_id=env.env.task_id,
        algorithm=options.algorithm,
    )
    layers = [(_array(module.weight), _array(module.bias)) for module in linear]
    return locate(ACTOR)(facts=facts, mean=env.mean, scale=env.scale, layers=layers)


def _array(parameter: torch.Tensor) -> np.ndarray:
    return parameter.detach().cpu().numpy().copy()


def make_model(env: ExpertEnv, options: ExpertOptions, *, seed: int) -> BaseAlgorithm:
    """Return stable-baselines3's algorithm on the environment, on one thread of the CPU."""
    common: dict[str, Any] = {
        "learning_rate": options.learning_rate,
        "batch_size": options.batch_size,
        "gamma": options.discount,
        "seed": derive_seed(seed, "algorithm") % 2**31,
        "device": "cpu",
    }
    widths = list(options.layer_widths)
    if options.algorithm == IS_SAC:
        return SAC(
            "MlpPolicy",
            env,
            buffer_size=options.num_decisions + options.seed_episodes * options.episode_decisions,
            learning_starts=0,
            tau=0.01,
            ent_coef="auto_0.05",
            policy_kwargs={"net_arch": widths},
            **common,
        )
    # Rollouts of whole episodes; stable-baselines3's other defaults are those of the paper.
    num_steps = 25 * options.episode_decisions
    return PPO("MlpPolicy", env, n_steps=num_steps, policy_kwargs={"net_arch": widths, "activation_fn": nn.Tanh}, **common)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Transition:
    before: np.ndarray
    """Scaled, [P]."""
    after: np.ndarray
    action: np.ndarray
    reward: float
    is_last: bool


def _play_seed(env: ExpertEnv, options: ExpertOptions, *, seed: int) -> list[_Transition]:
    """Play the seed episodes, measure the scales on them, and return them; at least one episode is played for the scales."""
    player = SeedPlayer(env, options.action_names, seed=derive_seed(seed, "player") % 2**31)
    states, played = [], []
    for _ in range(max(options.seed_episodes, 1)):
        env.reset()
        player.start()
        before, is_last = env.read(), False
        states.append(before)
        while not is_last:
            action = player.act()
            _, reward, _, is_last, _ = env.step(action)
            after = env.read()
            states.append(after)
            played.append(_Transition(before=before, after=after, action=action, reward=reward, is_last=is_last))
            before = after
    env.measure(states)

    def scaled(state: np.ndarray) -> np.ndarray:
        return np.clip((state - env.mean) / env.scale, -STATE_LIMIT, STATE_LIMIT)

    return [
        _Transition(
            before=scaled(each.before),
            after=scaled(each.after),
            action=each.action,
            reward=each.reward,
            is_last=each.is_last,
        )
        for each in played[: options.seed_episodes * options.episode_decisions]
    ]


class _Training(BaseCallback):
    """What happens around stable-baselines3's own loop: seed episodes first, checks in between, the best actor kept."""

    def __init__(
        self,
        model: BaseAlgorithm,
        check_env: ExpertEnv,
        options: ExpertOptions,
        *,
        seed: int,
        path: Path,
        on_progress: OnProgress,
    ) -> None:
        super().__init__()
        self._check_env, self._options, self._seed, self._path = check_env, options, seed, path
        self._on_progress = on_progress
        self._learner = model
        self._best = -1.0
        self._note = "seed"
        self.seed_transitions: list[_Transition] = []
        self.checks: list[tuple[int, float]] = []

    @property
    def num_seed_decisions(self) -> int:
        return len(self.seed_transitions)

    @property
    def num_decided(self) -> int:
        return self.num_seed_decisions + self._learner.num_timesteps

    def _on_training_start(self) -> None:
        if not self.seed_transitions:
            return
        assert isinstance(self._learner, SAC)
        assert self._learner.replay_buffer is not None
        for each in self.seed_transitions:
            reward, is_last = np.array([each.reward]), np.array([each.is_last])
            info = {"TimeLimit.truncated": each.is_last}
            self._learner.replay_buffer.add(each.before[None], each.after[None], each.action[None], reward, is_last, [info])
        self._learner.train(gradient_steps=self._options.seed_updates, batch_size=self._options.batch_size)

    def _on_step(self) -> bool:
        if self._learner.num_timesteps % 50 == 0:
            self._on_progress(self.num_decided, self._options.num_decisions, self._note)
        if self._learner.num_timesteps % self._options.check_every != 0:
            return True
        return self.check() < self._options.target_success

    def check(self) -> float:
        """Play the check's episodes with the present actor; keep it where none was better. Returns the share of successes."""
        if self.checks and self.checks[-1][0] == self.num_decided:
            return self.checks[-1][1]
        actor = actor_of(self._learner, self._check_env, self._options)
        env = copy.copy(self._check_env)  # numbers its episodes from the first again
        outcomes = [_succeeds(env, actor) for _ in range(self._options.check_episodes)]
        share = sum(outcomes) / len(outcomes)
        self.checks.append((self.num_decided, share))
        if share >= self._best:
            self._best = share
            actor.save(self._path)
        self._note = f"{sum(outcomes)} of {len(outcomes)} succeed"
        self._on_progress(self.num_decided, self._options.num_decisions, self._note)
        return share


def _succeeds(env: ExpertEnv, actor: Any) -> bool:
    state, _ = env.reset()
    is_over = False
    while not is_over:
        state, _, _, is_over, info = env.step(actor.decide(state))
        if info[SUCCESS]:
            return True
    return False


def evaluate_expert(env_spec: Mapping[str, Any], path: Path, *, num_episodes: int, on_progress: OnProgress) -> int:
    """Play the expert's file as demonstrations do, on official states within the environment's limit; count successes."""
    env = build(env_spec)
    num_succeeded = 0
    try:
        expert = locate("envs.experts.learned:LearnedExpert")(env, actor=str(path))
        for index in range(num_episodes):
            env.restart(options={"initial_state": index % env.num_initial_states})
            expert.start(seed=index, is_clean=True)
            is_success = is_over = False
            while not is_success and not is_over:
                _, is_success, is_over, _ = env.advance(expert.act())
            num_succeeded += is_success
            on_progress(index + 1, num_episodes, f"{num_succeeded} of {index + 1} succeed")
    finally:
        env.close()
    return num_succeeded
