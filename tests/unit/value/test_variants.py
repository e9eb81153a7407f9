"""Variants of the value function: ensembles, n-step targets, and that none of them changes what there was before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from opentau.config import plain_from
from opentau.errors import OptionError
from opentau.training.critic import CriticFit
from opentau.value.bins import expected_value
from opentau.value.checks import measure_critic, require_usable
from opentau.value.critic import Critic, CriticConfig, load_critic, new_critic, save_critic
from opentau.value.features import InputSizes
from opentau.value.options import CriticOptions, FitOptions, ValueOptions

OPTIONS = ValueOptions(critic=CriticOptions(hidden_dim=64), fit=FitOptions(num_updates=60, batch_size=128, learning_rate=6e-3))


def config_of(options: ValueOptions) -> CriticConfig:
    sizes = InputSizes(prefix_dim=24, state_dim=3, num_prompts=1)
    return CriticConfig(options=options.critic, sizes=sizes, prompts=("do box/0",), policy_version="policy")


def fit_of(world: Any, work_dir: Path, options: ValueOptions) -> CriticFit:
    return CriticFit(
        frames=world.frames, inputs=world.inputs, config=config_of(options), options=options, seed=0, work_dir=work_dir
    )


def member_values(critic: Critic, inputs: dict[str, np.ndarray]) -> torch.Tensor:
    with torch.no_grad():
        return expected_value(critic({name: torch.tensor(column) for name, column in inputs.items()}))


def ensemble(combined_by: str = "minimum") -> ValueOptions:
    return replace(OPTIONS, critic=replace(OPTIONS.critic, num_members=3, combined_by=combined_by))


def test_options_that_came_later_are_no_part_of_what_there_was_before() -> None:
    plain = plain_from(ValueOptions())
    assert {"num_members", "combined_by"}.isdisjoint(plain["critic"])
    assert "bootstrap_steps" not in plain["fit"]
    assert {"num_members", "combined_by"} <= set(plain_from(replace(CriticOptions(), num_members=2, combined_by="mean")))


def test_the_value_of_an_ensemble_is_the_least_of_its_members_or_their_mean(make_world, tmp_path) -> None:
    world = make_world(12, seed=1)
    doubting = fit_of(world, tmp_path, ensemble()).on_all()
    members = member_values(doubting, world.inputs)
    assert members.shape == (3, len(world.frames.table))
    assert float(members.std(dim=0).mean()) > 1e-3, "they differ"
    assert np.allclose(doubting.values(world.inputs), members.amin(dim=0).numpy(), atol=1e-6)
    averaging = new_critic(config_of(ensemble("mean")), seed=0)
    averaging.load_state_dict(doubting.state_dict())
    assert np.allclose(averaging.values(world.inputs), members.mean(dim=0).numpy(), atol=1e-6)

    save_critic(doubting, tmp_path / "kept")
    assert np.array_equal(load_critic(tmp_path / "kept").values(world.inputs), doubting.values(world.inputs))


def test_an_ensemble_doubts_most_what_it_has_not_seen(make_world, tmp_path) -> None:
    world = make_world(24, seed=1)
    critic = fit_of(world, tmp_path, ensemble()).on_all()
    strange = {**world.inputs, "prefix": -2 * world.inputs["prefix"]}
    known, unknown = (float(member_values(critic, inputs).std(dim=0).mean()) for inputs in (world.inputs, strange))
    assert unknown > 1.5 * known


def test_a_window_that_ends_before_the_episode_goes_on_from_there_and_any_other_is_known(make_table, sketch) -> None:
    frames = make_table([sketch(length=6, is_success=True), sketch(length=6, is_success=True, interventions=((3, 5),))])
    ahead = frames.bootstraps(2, takeover="fail")
    assert list(ahead.row[:6]) == [2, 3, 4, 5, 4, 5]
    assert list(ahead.is_known[:6]) == [False] * 4 + [True] * 2
    assert ahead.paid[:6] == pytest.approx([2 / 200] * 4 + [0] * 2)
    assert list(ahead.is_known[6:]) == [False, True, True, False, True, True]  # a takeover has failed, and is known
    actual = frames.bootstraps(2, takeover="actual")
    assert list(actual.row[6:]) == [8, 9, 9, 11, 10, 11]
    assert actual.paid[6:] == pytest.approx([2 / 200, 2 / 200, 1 / 200, 2 / 200, 0, 0])


def test_returns_follow_from_their_own_values_a_few_steps_on(make_table, sketch) -> None:
    frames = make_table([sketch(length=30, is_success=True), sketch(length=90, is_success=False)])
    returns, ahead = frames.returns(takeover="fail"), frames.bootstraps(7, takeover="fail")
    followed = np.where(ahead.is_known, returns, np.maximum(-1, returns[ahead.row] - ahead.paid))
    assert np.allclose(followed, returns, atol=1e-6)


def test_windows_as_long_as_episodes_are_the_returns_to_the_bit_and_short_ones_learn_as_well(make_world, tmp_path) -> None:
    world = make_world(48, seed=1)
    by_returns, whole, short = (
        fit_of(world, tmp_path / str(steps), replace(OPTIONS, fit=replace(OPTIONS.fit, bootstrap_steps=steps)))
        for steps in (None, 1000, 30)
    )
    assert np.array_equal(by_returns.on_all().values(world.inputs), whole.on_all().values(world.inputs))
    values = short.out_of_fold(num_fits=4)
    quality = measure_critic(values, frames=world.frames, takeover="fail", folds=short.folds)
    require_usable(quality)
    assert quality.auroc is not None
    assert quality.auroc > 0.9


def test_fits_with_bootstraps_resume_to_the_bit(make_world, tmp_path) -> None:
    world, options = make_world(8, seed=2), replace(OPTIONS, fit=replace(OPTIONS.fit, num_updates=12, bootstrap_steps=10))
    options = replace(options, fit=replace(options.fit, snapshot_interval=4))
    whole = fit_of(world, tmp_path / "whole", options).on_all().values(world.inputs)
    calls = 0

    def stop() -> None:
        nonlocal calls
        calls += 1
        if calls == 7:
            raise KeyboardInterrupt

    fit = fit_of(world, tmp_path / "stopped", options)
    with pytest.raises(KeyboardInterrupt):
        replace(fit, between_updates=stop).on_all()
    assert np.array_equal(fit.on_all().values(world.inputs), whole)


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        (CriticOptions, {"num_members": 0}, "num_members is 0"),
        (CriticOptions, {"combined_by": "min"}, "Did you mean 'minimum'"),
        (FitOptions, {"bootstrap_steps": 0}, "bootstrap_steps is 0"),
    ],
)
def test_wrong_variants_are_refused(kind: type, options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        kind(**options)
