"""What SAC makes of decisions about noise."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from opentau.errors import OptionError
from opentau.policies.noise import NoiseActor
from opentau.training.dsrl import train_noise_actor
from opentau.training.dsrl_options import Decisions, DsrlOptions

NUM_DECISIONS, NUM_FEATURES, STATE_DIM, ACTION_DIM = 600, 24, 2, 2
OPTIONS = DsrlOptions(
    num_updates=800, batch_size=64, learning_rate=2e-3, num_features=3, layer_widths=(32,), limit=1.0, target_entropy=-1.0
)


def _decisions(*, length: int = 1) -> Decisions:
    """Return decisions of which those are good whose noise has the sign of what the policy sees; others cost 1."""
    rng = np.random.default_rng(0)
    seen = rng.choice([-1.0, 1.0], NUM_DECISIONS)
    features = rng.normal(0, 0.01, (NUM_DECISIONS, NUM_FEATURES)) + 5.0
    features[:, 3] += 0.5 * seen
    mean = rng.uniform(-1, 1, (NUM_DECISIONS, ACTION_DIM))
    return Decisions(
        features=features.astype(np.float32),
        state=rng.normal(size=(NUM_DECISIONS, STATE_DIM)).astype(np.float32),
        mean=mean.astype(np.float32),
        reward=-(np.abs(mean[:, 0] - 0.6 * seen)).astype(np.float32),
        is_last=np.arange(NUM_DECISIONS) % length == length - 1,
    )


def _said(actor: NoiseActor, decisions: Decisions) -> np.ndarray:
    with torch.no_grad():
        read = actor.read(torch.from_numpy(decisions.features), torch.from_numpy(decisions.state))
        return actor(read, torch.zeros(len(decisions), ACTION_DIM)).numpy()


@pytest.mark.parametrize("length", [1, 3])
def test_the_actor_learns_which_noise_pays_where(length: int):
    decisions = _decisions(length=length)
    told = []
    actor = train_noise_actor(decisions, OPTIONS, seed=0, on_updates=lambda done, measured: told.append((done, measured)))
    seen = np.sign(decisions.features[:, 3] - 5.0)
    cost = np.abs(_said(actor, decisions)[:, 0] - 0.6 * seen).mean()
    assert cost < 0.3 < -decisions.reward.mean()
    assert [done for done, _ in told] == list(range(100, 801, 100))
    assert set(told[0][1]) == {"critic_loss", "actor_loss", "ent_coef"}


def test_equal_decisions_and_seeds_give_equal_actors():
    options = dataclasses.replace(OPTIONS, num_updates=20)
    first, second, other = (
        train_noise_actor(_decisions(), options, seed=seed, on_updates=lambda *_: None).state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert not torch.equal(first["mean.weight"], other["mean.weight"])


def test_components_that_do_not_vary_are_not_read():
    decisions = _decisions()
    flat = np.repeat(decisions.features[:, 3:4], NUM_FEATURES, axis=1)
    actor = train_noise_actor(
        dataclasses.replace(decisions, features=flat),
        dataclasses.replace(OPTIONS, num_updates=1),
        seed=0,
        on_updates=lambda *_: None,
    )
    assert actor.projection.shape == (NUM_FEATURES, 1)
    read = actor.read(torch.from_numpy(flat), torch.from_numpy(decisions.state))
    assert read[:, 0].std().item() == pytest.approx(1.0, abs=1e-2)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"num_updates": 0}, "num_updates"),
        ({"layer_widths": ()}, "layer_widths"),
        ({"discount": 1.0}, "discount"),
        ({"limit": 0.0}, "limit"),
    ],
)
def test_options_that_make_no_sense_are_named(wrong: dict, named: str):
    with pytest.raises(OptionError, match=f"improve.args.{named}"):
        DsrlOptions(**wrong)
