"""The policy loss: what counts, what is withheld, what is drawn, and what its gauge shows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from opentau.data.batches import Batch
from opentau.errors import OptionError
from opentau.policies.config import IndicatorPlace
from opentau.policies.processor import Processor
from opentau.policies.vla import VLA
from opentau.training.objectives import PolicyObjective
from opentau.training.options import ObjectiveOptions
from tests.unit.policies.parts import HORIZON, batch, model, nano_like, processor


def gap(objective: PolicyObjective, sample: Batch) -> float:
    right, flipped = objective.conditional_losses(sample)
    return flipped - right


def _objective(config=None, *, vla=None, **options):
    config = config or nano_like()
    return PolicyObjective(vla or model(config), processor=processor(config), options=ObjectiveOptions(**options))


def _loss(objective, sample, *, seed=0):
    torch.manual_seed(seed)
    return objective(sample)


def test_equal_seeds_give_equal_losses():
    objective, sample = _objective(fast_weight=1.0), batch()
    first, again, other = (_loss(objective, sample, seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_loss_is_the_weighted_sum_of_its_metrics():
    loss, metrics = _loss(_objective(fast_weight=0.5, flow_weight=2.0), batch())
    assert set(metrics) == {"train/flow", "train/fast"}
    assert float(loss) == pytest.approx(float(2 * metrics["train/flow"] + 0.5 * metrics["train/fast"]), rel=1e-6)
    assert set(_loss(_objective(), batch())[1]) == {"train/flow"}


def test_the_loss_in_bfloat16_is_close_to_the_one_in_float32():
    objective = _objective(nano_like(max_committed=2), fast_weight=1.0)
    full, _ = _loss(objective, batch())
    with torch.autocast("cpu", torch.bfloat16):
        half, _ = _loss(objective, batch())
    half.backward()
    assert float(half) == pytest.approx(float(full), rel=0.02)


def test_padded_actions_have_no_target():
    objective, sample = _objective(), batch(4, num_padded=4)
    wild = sample.action.copy()
    wild[:, -3:] += 5.0
    context = dataclasses.replace(sample, action=wild)
    vla = objective.model
    vla.expert.action_out.weight.data.zero_()  # so that padded inputs cannot change the velocity of the others
    assert torch.equal(_loss(objective, sample)[0], _loss(objective, context)[0])


def test_every_sample_weighs_the_same_however_much_of_it_is_padded():
    objective = _objective(indicator_dropout=0.0)
    objective.model.expert.action_out.weight.data.zero_()
    objective.model.expert.action_out.bias.data.zero_()
    sample = batch(2, num_padded=0)
    is_pad = np.zeros_like(sample.action_is_pad)
    is_pad[1, 2:] = True
    padded = dataclasses.replace(sample, action_is_pad=is_pad)
    torch.manual_seed(0)
    torch.rand(2)
    noise = torch.randn(4, HORIZON, 2).numpy()
    target = noise - np.repeat(sample.action, 2, axis=0)
    error = (target**2).mean(axis=-1)
    expected = np.mean([error[0].mean(), error[1].mean(), error[2, :2].mean(), error[3, :2].mean()])
    assert float(_loss(objective, padded)[0]) == pytest.approx(expected, rel=1e-5)


def test_padded_chunks_are_left_out_of_the_token_loss():
    objective = _objective(fast_weight=1.0, flow_weight=0.0, indicator_dropout=0.0)
    whole, half = batch(4, num_padded=0), batch(4, num_padded=2)
    first_two = dataclasses.replace(
        whole,
        **{name: getattr(whole, name)[:2] for name in ("state", "action", "action_is_pad", "prompt", "indicator")},
        images={camera: pixels[:2] for camera, pixels in whole.images.items()},
    )
    assert float(_loss(objective, half)[0]) == pytest.approx(float(_loss(objective, first_two)[0]), rel=1e-5)
    nothing, metrics = _loss(objective, batch(4, num_padded=4))
    assert float(nothing) == float(metrics["train/fast"]) == 0.0


def test_insulation_keeps_the_flow_loss_out_of_the_backbone():
    config = nano_like()
    for is_insulated in (True, False):
        vla = model(config)
        loss, metrics = _loss(_objective(config, vla=vla, fast_weight=1e-30, is_insulated=is_insulated), batch())
        loss.backward()
        reached = sum(float(p.grad.abs().sum()) for name, p in vla.named_parameters() if name.startswith("vision."))
        assert (reached < 1e-20) == is_insulated
        assert vla.expert.action_in.weight.grad.any()
        assert metrics["train/flow"] > 0


@pytest.mark.parametrize("place", list(IndicatorPlace))
def test_a_withheld_indicator_is_absent_for_text_and_embedding(place):
    config = nano_like(indicator_place=place)
    vla, sample = model(config), batch()
    unlabelled = dataclasses.replace(sample, indicator=np.full(len(sample.prompt), -1, np.int8))
    withheld = _loss(_objective(config, vla=vla, indicator_dropout=1.0), sample)[0]
    absent = _loss(_objective(config, vla=vla, indicator_dropout=0.0), unlabelled)[0]
    shown = _loss(_objective(config, vla=vla, indicator_dropout=0.0), sample)[0]
    assert torch.equal(withheld, absent)
    assert not torch.equal(withheld, shown)


def test_about_the_configured_share_of_indicators_is_withheld():
    objective = _objective(indicator_dropout=0.3)
    shown = []
    make = objective.processor.with_indicator
    objective.processor.with_indicator = lambda inputs, indicator: shown.append(indicator) or make(inputs, indicator)
    for seed in range(25):
        _loss(objective, batch(), seed=seed)
    withheld = torch.cat(shown[1::2]) < 0
    assert float(withheld.float().mean()) == pytest.approx(0.3, abs=0.1)


def test_more_noise_draws_average_the_same_loss():
    config = nano_like()
    vla = model(config)
    losses = [
        np.mean([float(_loss(_objective(config, vla=vla, num_noise_draws=draws), batch(), seed=seed)[0]) for seed in range(12)])
        for draws in (1, 4)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.15)


def test_committed_actions_are_clean_inputs_without_a_target():
    config = nano_like(max_committed=HORIZON - 1)
    objective = _objective(config, num_noise_draws=16)
    seen = []
    make = objective.model.velocity

    def velocity(context, *, noisy_BHA, time_BX):
        seen.append((noisy_BHA, time_BX))
        return make(context, noisy_BHA=noisy_BHA, time_BX=time_BX)

    objective.model.velocity = velocity
    sample = batch(6, num_padded=0)
    _loss(objective, sample)[0].backward()
    (noisy, time), action = seen[0], torch.from_numpy(sample.action).repeat_interleave(16, dim=0)
    is_committed = time == 0
    assert torch.equal(noisy[is_committed], action[is_committed])
    assert set(is_committed.sum(dim=1).tolist()) == set(range(HORIZON))
    assert (is_committed.int().diff(dim=1) <= 0).all()


def test_the_condition_gap_is_zero_for_a_policy_that_ignores_its_indicator():
    config = nano_like(has_indicator_text=False)
    objective = _objective(config, vla=VLA.create(config, seed=0))
    assert gap(objective, batch()) == 0.0


def test_the_condition_gap_grows_when_the_indicator_tells_the_action():
    config = nano_like()
    vla = VLA.create(config, seed=0)
    objective = _objective(config, vla=vla, indicator_dropout=0.0)
    sample = batch(8, num_padded=0)
    told = np.where(sample.indicator[:, None, None] == 1, 1.0, -1.0) * np.ones_like(sample.action)
    sample = dataclasses.replace(
        sample,
        action=told.astype(np.float32),
        state=np.zeros_like(sample.state),
        prompt=[sample.prompt[0]] * 8,
        images={camera: np.zeros_like(pixels) for camera, pixels in sample.images.items()},
    )
    optimizer = torch.optim.AdamW(vla.parameters(), lr=3e-3)
    for update in range(40):
        loss, _ = _loss(objective, sample, seed=update)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert gap(objective, sample) > 0.3
    assert gap(objective, sample) == gap(objective, sample)
    assert vla.training
    unlabelled = dataclasses.replace(sample, indicator=np.full(8, -1, np.int8))
    assert np.isnan(gap(objective, unlabelled))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"is_insulated": True}, "fast_weight"),
        ({"num_noise_draws": 0}, "num_noise_draws"),
        ({"indicator_dropout": 1.5}, "indicator_dropout"),
        ({"flow_weight": 0.0}, "flow_weight"),
    ],
)
def test_options_that_make_no_sense_are_named(options, named):
    with pytest.raises(OptionError, match=named):
        ObjectiveOptions(**options)


def test_a_token_loss_without_a_tokenizer_is_refused():
    config = nano_like()
    made = processor(config)
    bare = Processor(config, embodiments=made.embodiments, text_tokenizer=made.text_tokenizer, fast_tokenizer=None)
    with pytest.raises(OptionError, match="no action tokenizer"):
        PolicyObjective(model(config), processor=bare, options=ObjectiveOptions(fast_weight=1.0))
