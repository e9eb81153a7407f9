"""A training that cannot fit is refused before it loads, with what would make it fit."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from opentau.cli.compose import compose_config
from opentau.errors import TrainingError
from opentau.loop.memory import machine_bytes, require_memory, single_changes, what_fits
from opentau.loop.options import LoopOptions, options_id
from opentau.training.memory import MemoryNeed
from tests.unit.policies.parts import interface


def options(*overrides: str) -> LoopOptions:
    return LoopOptions.from_config(compose_config("loop", ["experiment=tiny", *overrides]))


def needed(num_bytes: int) -> MemoryNeed:
    return MemoryNeed(trained=num_bytes, frozen=0, optimizer=0, averages=0, passes=0, loading=0)


@pytest.mark.parametrize("stage", ["sft", "update"])
def test_too_little_memory_is_told_before_loading_with_what_to_change(stage: str) -> None:
    with pytest.raises(
        TrainingError, match=rf"stage {stage} would need about .* GB.*0\.0 GB are free.*opentau doctor --memory"
    ):
        require_memory(options("training.memory_gb=0.005"), interface(), stage=stage)


@pytest.mark.parametrize("memory_gb", ["0", "8", "null"])
def test_what_fits_or_is_not_to_be_checked_is_let_through(memory_gb: str) -> None:
    require_memory(options(f"training.memory_gb={memory_gb}"), interface(), stage="sft")


def test_this_machine_has_memory() -> None:
    assert 0 < machine_bytes(only_free=True) <= machine_bytes()


def test_changes_are_tried_in_order_and_the_first_that_fits_alone_is_taken() -> None:
    def need_with(further: Sequence[str]) -> MemoryNeed:
        return needed({"a=1": 90, "b=1": 40, "c=1": 30}[further[0]])

    singles, fitting = what_fits(["a=1", "b=1", "c=1"], limit=50, need_with=need_with)
    assert [single.need.total for single in singles] == [90, 40, 30]
    assert fitting is not None
    assert fitting.options == ("b=1",)


def test_changes_that_do_not_fit_alone_are_joined_and_what_is_not_needed_is_left_out() -> None:
    saved = {"pieces=2": 10, "pieces=16": 12, "bits=8": 3, "freeze=eyes": 5, "lora=yes": 30}

    def need_with(further: Sequence[str]) -> MemoryNeed:
        return needed(100 - sum(saved[change] for change in further))

    for limit, options in ((60, ("pieces=2", "lora=yes")), (58, ("pieces=16", "lora=yes")), (85, ("pieces=16", "bits=8"))):
        changes = [change for change in saved if limit < 80 or change != "lora=yes"]
        _, fitting = what_fits(changes, limit=limit, need_with=need_with)
        assert fitting is not None
        assert fitting.options == options
        assert fitting.need == need_with(options)
    assert what_fits(list(saved), limit=10, need_with=need_with)[1] is None


def test_what_is_done_already_is_not_proposed() -> None:
    proposed = single_changes(options(), stage="sft")
    assert proposed[0] == "training.checkpoint_activations=true"
    assert proposed[-1] == "tuning=lora"
    saved = options("tuning=lora", "training.checkpoint_activations=true", "++sft.ema_decay=0")
    assert single_changes(saved, stage="sft") == [
        "training.accumulation=2",
        "training.accumulation=16",
        "tuning.optimizer_bits=8",
    ]


def test_every_proposal_is_an_option_that_can_be_given() -> None:
    for proposal in single_changes(options(), stage="update"):
        assert options(proposal) != options()


def test_options_of_memory_that_are_as_by_default_leave_a_runs_name_as_it_was() -> None:
    config = compose_config("loop", [])
    without = {name: value for name, value in config.items() if name != "tuning"}
    assert options_id(config) == options_id(without)
    assert options_id(config) == options_id(compose_config("loop", ["training.checkpoint_activations=true"]))
    assert options_id(config) != options_id(compose_config("loop", ["tuning=lora"]))
