"""Experts by reinforcement learning: what is exported is what stable-baselines3 learned, and it demonstrates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.experts.learned import Actor, LearnedExpert
from envs.robosuite.environment import RobosuiteEnv
from opentau.data.lerobot.dataset import Dataset
from opentau.errors import OptionError
from opentau.training.expert import actor_of, evaluate_expert, make_model, train_expert
from opentau.training.expert_env import ExpertEnv, SeedPlayer
from opentau.training.expert_options import ALGORITHMS, ExpertOptions
from opentau.types import Outcome, Source
from tests.lifting import lifting_actor
from tests.loop.driving import opentau

pytestmark = pytest.mark.libero

LIFT = {"target": "envs.robosuite.environment:RobosuiteEnv", "args": {"suite": "lift"}}
SMALL = {"episode_decisions": 10, "layer_widths": (16, 16), "batch_size": 32, "check_every": 100, "check_episodes": 2}


@pytest.fixture(scope="module")
def env() -> Iterator[RobosuiteEnv]:
    env = RobosuiteEnv(suite="lift", image_size=32)
    yield env
    env.close()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_exported_actor_acts_as_stable_baselines3_does(algorithm: str, env: RobosuiteEnv, tmp_path: Path) -> None:
    options = ExpertOptions(algorithm=algorithm, **SMALL)
    learned = ExpertEnv(env, options, seed=0, purpose="train")
    model = make_model(learned, options, seed=0)
    model.learn(260)
    actor_of(model, learned, options).save(tmp_path / "actor.npz")
    actor = Actor.load(tmp_path / "actor.npz")
    states = np.random.default_rng(0).normal(0.0, 3.0, (200, len(learned.state_names))).clip(-10, 10).astype(np.float32)
    expected, _ = model.predict(states, deterministic=True)
    np.testing.assert_allclose(actor.decide(states), expected, atol=1e-6, rtol=0)
    assert np.abs(expected).std() > 0.01


def test_a_training_keeps_the_best_checked_expert_and_equal_seeds_give_equal_files(tmp_path: Path) -> None:
    options = ExpertOptions(num_decisions=300, seed_episodes=5, seed_updates=20, **SMALL)
    notes: list[tuple[int, int, str]] = []
    results = [
        train_expert(LIFT, options, seed=3, path=tmp_path / name, on_progress=lambda *note: notes.append(note))
        for name in ("one.npz", "other.npz")
    ]
    assert results[0] == results[1]
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "other.npz").read_bytes()
    assert results[0].num_decisions == 300
    assert results[0].num_updates >= 250
    assert [decisions for decisions, _ in results[0].checks] == [150, 250, 300]
    assert notes[-1][:2] == (300, 300)
    successes = evaluate_expert(LIFT, tmp_path / "one.npz", num_episodes=1, on_progress=lambda *note: None)
    assert 0 <= successes <= 1


def test_seed_episodes_reach_the_object_and_lift_it_now_and_then(env: RobosuiteEnv) -> None:
    options = ExpertOptions()
    learned = ExpertEnv(env, options, seed=0, purpose="train")
    player = SeedPlayer(learned, options.action_names, seed=0)
    rewards = []
    for _ in range(6):
        learned.reset()
        player.start()
        rewards.append(max(learned.step(player.act())[1] for _ in range(25)))
    assert min(rewards) > 0.25
    assert max(rewards) == 1.0


def test_an_expert_of_another_scene_and_an_environment_without_a_dense_reward_are_refused(
    env: RobosuiteEnv, tmp_path: Path
) -> None:
    stack = RobosuiteEnv(suite="stack", image_size=32)
    with pytest.raises(ValueError, match="other objects"):
        LearnedExpert(stack, actor=lifting_actor(env, tmp_path / "actor.npz"))
    stack.close()
    with pytest.raises(ValueError, match="no learned expert"):
        LearnedExpert(env, actor=str(tmp_path / "none.npz"))
    with pytest.raises(OptionError, match="'drx'"):
        ExpertEnv(env, ExpertOptions(action_names=("drxx",)), seed=0, purpose="train")
    tabletop = {"target": "envs.tabletop.environment:TabletopEnv"}
    with pytest.raises(OptionError, match="no dense reward"):
        train_expert(tabletop, ExpertOptions(), seed=0, path=tmp_path / "a.npz", on_progress=lambda *note: None)


def test_the_command_trains_and_evaluates(tmp_path: Path) -> None:
    small = [f"learning.{name}={list(value) if isinstance(value, tuple) else value}" for name, value in SMALL.items()]
    budget = ["learning.num_decisions=120", "learning.seed_episodes=3", "learning.seed_updates=10", "learning.final_episodes=1"]
    out = tmp_path / "lift.npz"
    result = opentau(tmp_path, "expert", "env=robosuite/lift", *small, *budget, "--out", str(out))
    assert (result["path"], result["episodes"], result["num_decisions"]) == (str(out), 1, 120)
    assert Actor.load(out).facts.algorithm == "sac"


@pytest.mark.timeout(600)
def test_a_learned_expert_demonstrates_and_nano_trains_on_that(env: RobosuiteEnv, tmp_path: Path) -> None:
    actor = lifting_actor(env, tmp_path / "actor.npz")
    options = ["env=robosuite/lift", "+expert=learned", f"env.expert.args.actor={actor}", "env.args.image_size=32"]
    budget = ["run_id=run", "data.demonstrations=2", "sft.num_updates=3", "sft.batch_size=8"]
    trained: dict[str, Any] = opentau(tmp_path, "sft", *options, *budget)
    assert trained["stage"] == "sft-0"
    recorded = Dataset(next((tmp_path / "run" / "stages").glob("demonstrations-0-*")))
    succeeded = [index for index, info in enumerate(recorded.episodes) if info.outcome is Outcome.SUCCESS]
    assert len(succeeded) >= 2
    episode = recorded.load(succeeded[0])
    assert (episode.source == Source.DEMONSTRATION).all()
    assert episode.policy_version == "LearnedExpert"
