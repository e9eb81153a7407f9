"""Predicted memory follows what is trained and how, without any memory, and is what operations really take."""

from __future__ import annotations

import dataclasses

import pytest

from opentau.policies import family
from opentau.training.memory import LiveBytes, MemoryNeed, at_most, memory_need
from opentau.training.objectives import PolicyObjective
from opentau.training.options import AdapterOptions, DistributionOptions, ObjectiveOptions, TrainOptions, TuningOptions
from tests.unit.policies.parts import FAMILY, batch, model, nano_like, pi05_like, processor

OPTIONS = TrainOptions(batch_size=6, precision="float32")
LORA = TuningOptions(
    freeze=("vision.*", "text_embedding.*"), adapt=(AdapterOptions(layers="*", rank=2),), frozen_precision="bfloat16"
)


def need(
    config=None, *, options: TrainOptions = OPTIONS, objective=None, tuning=None, distribution=None, **others
) -> MemoryNeed:
    return memory_need(
        config or pi05_like(),
        options=options,
        objective=objective or ObjectiveOptions(),
        tuning=tuning or TuningOptions(),
        distribution=distribution or DistributionOptions(),
        **others,
    )


def test_weights_averages_and_moments_are_counted_to_the_byte() -> None:
    num_weights = sum(parameter.numel() for parameter in model(pi05_like()).parameters())
    found = need()
    assert (found.trained, found.frozen, found.averages) == (4 * num_weights, 0, 4 * num_weights)
    assert found.optimizer == pytest.approx(8 * num_weights, rel=0.01)
    assert found.loading == 4 * num_weights


@pytest.mark.parametrize("objective", [{}, {"num_noise_draws": 1}], ids=["two draws", "one draw"])
@pytest.mark.parametrize("name", FAMILY)
def test_the_passes_are_what_the_real_objective_takes(name: str, objective: dict) -> None:
    config, options = FAMILY[name](), ObjectiveOptions(**objective)
    real = PolicyObjective(model(config).train(), processor=processor(config), options=options)
    with LiveBytes() as counter:
        loss, _ = real(batch(6))
        loss.backward()
    # Prompts of a batch are as long as its longest; the longest that there may be is counted.
    assert 0.95 < need(config, objective=options).passes / counter.most < 1.3


@pytest.mark.parametrize(
    ("smaller", "part"),
    [
        ({"distribution": DistributionOptions(checkpoint_activations=True)}, "passes"),
        ({"distribution": DistributionOptions(accumulation=6)}, "passes"),
        ({"options": dataclasses.replace(OPTIONS, batch_size=2)}, "passes"),
        ({"options": dataclasses.replace(OPTIONS, ema_decay=0.0)}, "averages"),
        ({"tuning": TuningOptions(optimizer_bits=8)}, "optimizer"),
        ({"tuning": TuningOptions(freeze=("vision.*",))}, "trained"),
        ({"tuning": dataclasses.replace(LORA, frozen_precision="float32")}, "trained"),
    ],
)
def test_every_option_that_saves_memory_is_seen_to_save_it(smaller: dict, part: str) -> None:
    config = pi05_like() if part != "optimizer" else nano_like()
    whole, found = need(config), need(config, **smaller)
    assert getattr(found, part) < getattr(whole, part)
    assert found.total < whole.total


def test_frozen_matrices_in_bfloat16_take_half() -> None:
    options = dataclasses.replace(OPTIONS, precision="bfloat16")
    wide, narrow = (
        need(options=options, tuning=dataclasses.replace(LORA, frozen_precision=precision)).frozen
        for precision in ("float32", "bfloat16")
    )
    assert narrow == pytest.approx(wide / 2, rel=0.05)


def test_answers_and_action_tokens_cost_memory() -> None:
    assert need(says_text=True).passes > need().passes
    assert need(objective=ObjectiveOptions(fast_weight=1.0)).passes > need().passes


def test_shards_are_smaller_than_wholes() -> None:
    whole, sharded = (need(distribution=DistributionOptions(strategy=name), num_processes=2) for name in ("ddp", "fsdp"))
    assert sharded.trained == whole.trained // 2
    assert sharded.optimizer == whole.optimizer // 2


@pytest.mark.parametrize("name", FAMILY)
def test_what_a_training_never_needs_is_more_than_what_it_does(name: str) -> None:
    assert at_most(FAMILY[name](), options=OPTIONS, objective=ObjectiveOptions()) > need(FAMILY[name]()).total


def test_pi05_at_its_published_size_is_counted_without_memory() -> None:
    config = family.published("pi05", cameras=("base", "wrist"), state_dim=8, action_dim=7)
    lora = TuningOptions(
        freeze=("vision.*", "text_embedding.*"),
        adapt=(AdapterOptions(layers="backbone.*", rank=16), AdapterOptions(layers="expert.*", rank=32)),
        frozen_precision="bfloat16",
    )
    found = need(
        config,
        options=TrainOptions(batch_size=8, precision="bfloat16"),
        tuning=lora,
        distribution=DistributionOptions(checkpoint_activations=True),
    )
    assert 12e9 < found.total < 24e9
