"""The assembled model: who sees what, where gradients go, and that it learns."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from opentau.models.config import TransformerConfig
from opentau.models.flow import integrate, noisy_action, sample_time, target_velocity
from opentau.policies.config import PolicyConfig
from opentau.policies.inputs import PrefixInputs
from opentau.policies.prefix import Prefix
from opentau.policies.vla import VLA
from opentau.types import Indicator
from tests.unit.policies.parts import ACTION_DIM, FAMILY, HORIZON, batch, model, nano_like, prefix_inputs, processor

everyone = pytest.mark.parametrize("member", FAMILY.values(), ids=FAMILY)


def _chunk(count: int, *, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, HORIZON, ACTION_DIM, generator=torch.Generator().manual_seed(seed))


def _velocity(vla: VLA, prefix: Prefix, *, time: torch.Tensor | None = None) -> torch.Tensor:
    noisy = _chunk(len(prefix.state_BS))
    return vla.velocity(
        vla.expert_context(prefix), noisy_BHA=noisy, time_BX=torch.full((len(noisy), 1), 0.5) if time is None else time
    )


def _backbone_gradients(vla: VLA) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in vla.named_parameters() if not name.startswith("expert.") and p.grad is not None}


@everyone
def test_flow_gradients_reach_the_backbone_unless_insulated(member):
    config = member()
    vla, inputs = model(config), prefix_inputs(config, batch())
    prefix = vla.prefix(inputs)
    _velocity(vla, prefix.detached()).square().mean().backward()
    assert not _backbone_gradients(vla)
    _velocity(vla, prefix).square().mean().backward()
    gradients = _backbone_gradients(vla)
    assert any(name.startswith("vision.") and gradient.any() for name, gradient in gradients.items())
    assert gradients["backbone.layers.0.self_attn.q_proj.weight"].any()
    assert gradients["text_embedding.weight"].any()


@everyone
def test_action_tokens_change_no_bit_of_the_experts_answer(member):
    config = member()
    vla, sample = model(config), batch(num_padded=0)
    inputs = prefix_inputs(config, sample)
    alone = _velocity(vla, vla.prefix(inputs))
    fast = processor(config).fast_inputs(sample.action, is_pad_BH=sample.action_is_pad)
    prefix = vla.prefix(inputs)
    vla.continuation(prefix, fast.token_MF)
    assert torch.equal(_velocity(vla, prefix), alone)


@everyone
def test_action_tokens_do_not_see_the_expert_and_later_tokens_are_not_seen_by_earlier_ones(member):
    config = member()
    vla = model(config)
    prefix = vla.prefix(prefix_inputs(config, batch(2)))
    tokens = torch.randint(4, 500, (2, 7))
    changed = tokens.clone()
    changed[:, 4:] = 3
    before, after = vla.continuation(prefix, tokens), vla.continuation(prefix, changed)
    assert torch.allclose(before[:, :4], after[:, :4], atol=1e-6)
    assert not torch.allclose(before[:, 4:], after[:, 4:], atol=1e-3)
    before.sum().backward()
    assert all(parameter.grad is None for parameter in vla.expert.parameters())


def test_the_indicator_embedding_starts_without_effect():
    config = nano_like(has_indicator_text=False)
    vla, sample = VLA.create(config, seed=0), batch()
    answers = [
        _velocity(vla, vla.prefix(prefix_inputs(config, sample, indicator=indicator)))
        for indicator in (Indicator.ABSENT, Indicator.NEGATIVE, Indicator.POSITIVE)
    ]
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])
    vla.expert.indicator_embedding.weight.data.fill_(0.5)
    vla.expert.indicator_embedding.weight.data[1] = -0.5
    assert not torch.equal(_velocity(vla, vla.prefix(prefix_inputs(config, sample, indicator=Indicator.POSITIVE))), answers[0])


def test_the_indicators_text_reaches_the_expert_and_no_earlier_token():
    config = nano_like(has_indicator_embedding=False)
    vla, sample = model(config), batch()
    positive, negative, absent = (
        vla.prefix(prefix_inputs(config, sample, indicator=indicator))
        for indicator in (Indicator.POSITIVE, Indicator.NEGATIVE, Indicator.ABSENT)
    )
    seen = positive.has_token_BT.shape[1] - positive.num_indicator_tokens
    for of_positive, of_negative in zip(positive.offered, negative.offered, strict=True):
        assert torch.equal(of_positive.keys_BGTD[:, :, :seen], of_negative.keys_BGTD[:, :, :seen])
        assert not torch.equal(of_positive.keys_BGTD[:, :, seen:], of_negative.keys_BGTD[:, :, seen:])
    assert not torch.allclose(_velocity(vla, positive), _velocity(vla, negative), atol=1e-4)
    assert torch.equal(_velocity(vla, positive.without_indicator()), _velocity(vla, absent))
    assert torch.equal(vla.features(positive), vla.features(absent))


@everyone
def test_a_missing_camera_has_no_influence(member):
    config = member()
    vla, sample = model(config), batch()
    inputs = prefix_inputs(config, sample)
    blind = dataclasses.replace(inputs, has_camera_BC=torch.tensor([[True, False]]).expand(len(inputs), -1))
    repainted = dataclasses.replace(blind, images_BCYX3=blind.images_BCYX3.clone())
    repainted.images_BCYX3[:, 1] = 255
    assert torch.equal(_velocity(vla, vla.prefix(blind)), _velocity(vla, vla.prefix(repainted)))
    assert not torch.allclose(_velocity(vla, vla.prefix(blind)), _velocity(vla, vla.prefix(inputs)), atol=1e-4)


@everyone
def test_padding_of_the_prompt_has_no_influence(member):
    config = member()
    vla, inputs = model(config), prefix_inputs(config, batch())
    rewritten = dataclasses.replace(inputs, prompt_BP=torch.where(inputs.has_prompt_BP, inputs.prompt_BP, 77))
    assert torch.equal(_velocity(vla, vla.prefix(inputs)), _velocity(vla, vla.prefix(rewritten)))


@everyone
@pytest.mark.parametrize("part", ["images_BCYX3", "prompt_BP", "state_BS", "time"])
def test_everything_that_is_observed_matters(member, part):
    config = member()
    vla, inputs = model(config), prefix_inputs(config, batch())
    before = _velocity(vla, vla.prefix(inputs))
    if part == "time":
        after = _velocity(vla, vla.prefix(inputs), time=torch.full((len(inputs), 1), 0.9))
    else:
        sample = batch(seed=3)
        other = prefix_inputs(config, dataclasses.replace(sample, prompt=sample.prompt[::-1], indicator=batch().indicator))
        names = {"state_BS": ["state_BS", "prompt_BP"]}.get(part, [part])
        if part == "prompt_BP":
            names.append("has_prompt_BP")
        after = _velocity(vla, vla.prefix(dataclasses.replace(inputs, **{name: getattr(other, name) for name in names})))
    assert not torch.allclose(before, after, atol=1e-4)


@everyone
def test_one_time_for_all_actions_equals_one_per_action(member):
    config = member()
    vla = model(config)
    prefix = vla.prefix(prefix_inputs(config, batch(3)))
    shared = _velocity(vla, prefix, time=torch.tensor([[0.2], [0.5], [0.9]]))
    each = _velocity(vla, prefix, time=torch.tensor([[0.2], [0.5], [0.9]]).expand(-1, HORIZON))
    assert torch.allclose(shared, each, atol=1e-5)


def test_an_action_at_its_own_time_is_told_apart():
    config = nano_like()
    vla = model(config)
    prefix = vla.prefix(prefix_inputs(config, batch(2)))
    time = torch.full((2, HORIZON), 0.7)
    clean = time.clone()
    clean[:, :3] = 0.0
    assert not torch.allclose(_velocity(vla, prefix, time=time), _velocity(vla, prefix, time=clean), atol=1e-4)


def test_rows_of_a_prefix_are_observations():
    config = nano_like()
    vla = model(config)
    prefix = vla.prefix(prefix_inputs(config, batch(3)))
    assert torch.equal(prefix.repeated(2).stream_BTW[2:4], prefix.stream_BTW[[1, 1]])
    assert torch.equal(prefix.rows(torch.tensor([2, 0])).offered[1].values_BGTD[0], prefix.offered[1].values_BGTD[2])


@everyone
def test_features_are_one_finite_vector_per_observation(member):
    config = member()
    vla, inputs = model(config), prefix_inputs(config, batch())
    features = vla.features(vla.prefix(inputs))
    assert features.shape == (len(inputs), config.feature_dim)
    assert features.dtype == torch.float32
    assert torch.isfinite(features).all()
    assert features.std(dim=0).min() > 0 or config.state_input != "token"
    blind = dataclasses.replace(inputs, has_camera_BC=torch.tensor([[True, False]]).expand(len(inputs), -1))
    width = config.backbone.width
    assert not vla.features(vla.prefix(blind))[:, width : 2 * width].any()


def test_weights_are_a_function_of_the_seed_and_leave_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = VLA.create(nano_like(), seed=1).state_dict()
    assert torch.equal(torch.rand(3), expected)
    again = VLA.create(nano_like(), seed=1).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_model_overfits_a_handful_of_samples_and_draws_their_actions():
    config = _light()
    vla, inputs, action = VLA.create(config, seed=0), _two_scenes(config), torch.tensor([[1.0], [-1.0]])
    action_BHA = action[:, :, None].expand(-1, HORIZON, ACTION_DIM)
    optimizer = torch.optim.AdamW(vla.parameters(), lr=3e-3)
    torch.manual_seed(0)
    for _ in range(80):
        prefix = vla.prefix(inputs).repeated(8)
        wanted = action_BHA.repeat_interleave(8, dim=0)
        noise, time = torch.randn_like(wanted), sample_time((len(wanted), 1))
        noisy = noisy_action(action_BHA=wanted, noise_BHA=noise, time_BX=time)
        velocity = vla.velocity(vla.expert_context(prefix), noisy_BHA=noisy, time_BX=time)
        loss = (velocity - target_velocity(action_BHA=wanted, noise_BHA=noise)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        context = vla.expert_context(vla.prefix(inputs))
        drawn = integrate(lambda x, time: vla.velocity(context, noisy_BHA=x, time_BX=time), noise_BHA=_chunk(2), num_steps=5)
    assert (drawn - action_BHA).abs().mean() < 0.15


def _light() -> PolicyConfig:
    stack = TransformerConfig(width=32, depth=2, num_heads=2, num_kv_heads=2, head_dim=16, mlp_dim=64, gelu="none")
    return nano_like(backbone=stack, expert=dataclasses.replace(stack, is_adaptive=True, gate_offset=1.0))


def _two_scenes(config: PolicyConfig) -> PrefixInputs:
    """Return two observations that differ in their pictures alone."""
    sample = batch(2, num_padded=0)
    images = {camera: pixels.copy() for camera, pixels in sample.images.items()}
    images["agentview"][0], images["agentview"][1] = 0, 255
    return prefix_inputs(
        config,
        dataclasses.replace(
            sample,
            images=images,
            state=np.zeros_like(sample.state),
            prompt=[sample.prompt[0]] * 2,
            indicator=np.ones(2, np.int8),
        ),
    )
