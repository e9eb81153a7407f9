"""Fitting critics: what they learn of episodes they have not seen, and what labels would lose without folds."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from opentau.errors import CheckpointError, DataError
from opentau.training.critic import CriticFit
from opentau.value.checks import measure_critic, require_usable
from opentau.value.critic import CriticConfig, load_critic, new_critic, save_critic
from opentau.value.features import InputSizes
from opentau.value.options import CriticOptions, FitOptions, ValueOptions
from opentau.value.table import assign_folds

OPTIONS = ValueOptions(critic=CriticOptions(hidden_dim=128), fit=FitOptions(num_updates=60, batch_size=128, learning_rate=6e-3))
SHORT = replace(OPTIONS, fit=replace(OPTIONS.fit, num_updates=10))
CONFIG = CriticConfig(
    options=OPTIONS.critic,
    sizes=InputSizes(prefix_dim=24, state_dim=3, num_prompts=1),
    prompts=("do box/0",),
    policy_version="policy",
)


def fit_of(world, work_dir: Path, *, options: ValueOptions = OPTIONS, start=None, seed: int = 0) -> CriticFit:
    return CriticFit(
        frames=world.frames, inputs=world.inputs, config=CONFIG, options=options, seed=seed, work_dir=work_dir, start=start
    )


def test_on_a_learnable_task_the_critic_tells_success_from_failure_on_episodes_it_has_not_seen(make_world, tmp_path) -> None:
    world = make_world(48, seed=1)
    values = fit_of(world, tmp_path).out_of_fold(num_fits=4)
    quality = measure_critic(values, frames=world.frames, takeover="fail")
    require_usable(quality)
    assert min(quality.num_successes, quality.num_failures) >= 8
    assert quality.auroc is not None
    assert quality.auroc > 0.9
    assert quality.spearman is not None
    assert quality.spearman > 0.4
    assert quality.calibration_error is not None
    assert quality.calibration_error < 0.15


def test_a_critic_that_memorises_episodes_flattens_their_advantages_and_out_of_fold_they_keep_their_spread(
    make_world, tmp_path
) -> None:
    world = make_world(40, seed=1, identity_scale=3.0)
    options = replace(OPTIONS, critic=replace(OPTIONS.critic, dropout=0.0), fit=replace(OPTIONS.fit, num_updates=100))
    config = replace(CONFIG, options=options.critic)
    fit = replace(fit_of(world, tmp_path, options=options), config=config)
    known = fit.on_all().values(world.inputs)
    unknown = fit.out_of_fold(num_fits=4)

    returns = world.frames.returns(takeover="fail")
    assert np.mean((known - returns) ** 2) < 0.02  # it has memorised them
    in_fold = world.frames.advantages(known, lookahead=OPTIONS.lookahead, takeover="fail").std()
    out_of_fold = world.frames.advantages(unknown, lookahead=OPTIONS.lookahead, takeover="fail").std()
    assert in_fold < 0.5 * out_of_fold
    judged = measure_critic(known, frames=world.frames, takeover="fail")
    honest = measure_critic(unknown, frames=world.frames, takeover="fail")
    assert judged.auroc is not None
    assert honest.auroc is not None
    assert judged.auroc > 0.99  # measured on what it was fitted on, it looks perfect
    assert honest.auroc < 0.9


def test_each_episode_is_valued_by_a_critic_that_did_not_see_it(make_world, tmp_path) -> None:
    world = make_world(8, seed=2)
    values = fit_of(world, tmp_path, options=SHORT).out_of_fold(num_fits=4)
    folds = assign_folds(world.frames, num_folds=4, seed=0)
    victim = world.frames.episodes[3]
    features = world.inputs["prefix"].copy()
    features[world.frames.rows(victim)] *= -1
    changed = replace(world, inputs={**world.inputs, "prefix": features})
    other = fit_of(changed, tmp_path / "other", options=SHORT).out_of_fold(num_fits=4)
    is_untouched = world.frames.table.episode != 3
    shares_fold = (folds == folds[3])[world.frames.table.episode]
    assert np.array_equal(values[is_untouched & shares_fold], other[is_untouched & shares_fold])
    assert not np.any(values[~shares_fold] == other[~shares_fold])


def test_fits_are_deterministic_and_resume_to_the_bit(make_world, tmp_path) -> None:
    world = make_world(8, seed=2)
    first = fit_of(world, tmp_path / "a", options=SHORT).out_of_fold(num_fits=4)
    fits = fit_of(world, tmp_path / "b", options=SHORT)
    stopped_after = 0

    def stop() -> None:
        nonlocal stopped_after
        stopped_after += 1
        if stopped_after == 25:  # in the third fold
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace(fits, between_updates=stop).out_of_fold(num_fits=4)
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["fold-0", "fold-1"]
    assert np.array_equal(fits.out_of_fold(num_fits=4), first)
    shutil.rmtree(tmp_path / "b")
    assert not np.array_equal(fit_of(world, tmp_path / "b", options=SHORT, seed=1).out_of_fold(num_fits=4), first)


def test_folds_spread_every_outcome_evenly(make_world) -> None:
    frames = make_world(40, seed=1).frames
    folds = assign_folds(frames, num_folds=4, seed=0)
    assert sorted(np.bincount(folds)) == [10, 10, 10, 10]
    successes = np.bincount(folds[frames.is_success])
    assert successes.max() - successes.min() <= 1
    assert not np.array_equal(folds, assign_folds(frames, num_folds=4, seed=1))


def test_fewer_episodes_than_folds_are_refused(make_table, sketch) -> None:
    with pytest.raises(DataError, match="3 episodes"):
        assign_folds(make_table([sketch(length=5, is_success=True)] * 3), num_folds=4, seed=0)


def test_a_fit_starts_from_the_given_critic(make_world, tmp_path) -> None:
    world = make_world(12, seed=3)
    start = fit_of(world, tmp_path / "start").on_all()
    short = replace(OPTIONS, fit=replace(OPTIONS.fit, num_updates=1))
    near = fit_of(world, tmp_path / "near", options=short, start=start).on_all()
    far = fit_of(world, tmp_path / "far", options=short).on_all()
    distance = {
        name: sum((a - b).abs().sum().item() for a, b in zip(critic.parameters(), start.parameters(), strict=True))
        for name, critic in (("near", near), ("far", far))
    }
    assert distance["near"] < 0.1 * distance["far"]


def test_a_critic_of_another_make_cannot_be_the_start(make_world, tmp_path) -> None:
    world = make_world(8, seed=3)
    other = new_critic(replace(CONFIG, policy_version="another policy"), seed=0)
    with pytest.raises(CheckpointError, match="other options, prompts or policy features"):
        fit_of(world, tmp_path, start=other)


def test_a_saved_critic_says_the_same_and_a_damaged_one_is_refused(make_world, tmp_path) -> None:
    world = make_world(6, seed=4)
    critic = new_critic(CONFIG, seed=5)
    critic.features.calibrate({name: torch.tensor(array) for name, array in world.inputs.items()})
    save_critic(critic, tmp_path / "critic")
    loaded = load_critic(tmp_path / "critic")
    assert loaded.config == critic.config
    values = loaded.values(world.inputs)
    assert np.array_equal(values, critic.values(world.inputs))
    assert values.dtype == np.float32
    assert values.min() >= -1
    assert values.max() <= 0
    weights = tmp_path / "critic" / "critic.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="damaged"):
        load_critic(tmp_path / "critic")
    with pytest.raises(CheckpointError, match="holds no critic"):
        load_critic(tmp_path)


def test_an_unknown_prompt_has_its_own_embedding() -> None:
    assert list(CONFIG.prompt_index(["do box/0", "open the door"])) == [0, -1]
