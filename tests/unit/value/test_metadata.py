"""Episode metadata: what is told of which frame, how often it is withheld, and what the policy is asked for."""

from __future__ import annotations

import numpy as np
import pytest

from opentau.cli.compose import compose_config
from opentau.data.telling import NOT_SAID, told_text, with_told
from opentau.errors import OptionError
from opentau.loop.options import LoopOptions
from opentau.loop.plans import planned_stages
from opentau.types import Indicator, Source
from opentau.value.metadata import MetadataOptions, metadata_of

OPTIONS = MetadataOptions(dropout=0.0, part_dropout=0.0)


def texts(frames, options: MetadataOptions = OPTIONS, *, seed: int = 0) -> list[str]:
    """What is told of every frame."""
    telling = metadata_of(frames, options).telling(options)
    return telling.texts(np.arange(len(frames.table)), np.random.default_rng(seed))


def first_of(frames, told: list[str]) -> list[str]:
    return [told[record.start] for record in frames.episodes]


def test_successes_are_told_their_speed_among_those_of_their_task_and_failures_that_they_failed(make_table, sketch) -> None:
    lengths = {"box/0": (30, 40, 50, 60, 70, 80), "box/1": (10, 20, 25)}
    sketches = [sketch(length=n, is_success=True, task_id=task) for task, own in lengths.items() for n in own]
    frames = make_table([*sketches, sketch(length=35, is_success=False), sketch(length=99, is_success=False, task_id="box/1")])
    fast, medium, slow = (f"quality: high, speed: {word}" for word in ("fast", "medium", "slow"))
    told = texts(frames)
    assert first_of(frames, told) == [fast] * 2 + [medium] * 2 + [slow] * 2 + [fast, medium, slow] + ["quality: low"] * 2
    for record in frames.episodes:
        assert len(set(told[frames.rows(record)])) == 1
    assert metadata_of(frames, OPTIONS).limits["box/0"] == pytest.approx([46.667, 63.333])


def test_equal_lengths_are_equally_fast_and_one_word_is_told_of_all(make_table, sketch) -> None:
    frames = make_table([sketch(length=40, is_success=True)] * 5)
    assert set(texts(frames)) == {"quality: high, speed: fast"}
    assert set(texts(frames, MetadataOptions(speeds=("any",), dropout=0.0, part_dropout=0.0))) == {"quality: high, speed: any"}


def test_what_ended_in_a_takeover_is_of_low_quality_and_the_expert_never_is(make_table, sketch) -> None:
    rescued = sketch(length=60, is_success=True, interventions=((20, 35),))
    lost = sketch(length=90, is_success=False, interventions=((20, 35),))
    shown = sketch(length=30, is_success=True, source=Source.DEMONSTRATION)
    frames = make_table([rescued, lost, shown])
    told = texts(frames)
    high = "quality: high, speed: slow"
    assert told[:60] == ["quality: low"] * 20 + [high] * 40
    assert told[60:150] == ["quality: low"] * 20 + ["quality: high"] * 15 + ["quality: low"] * 55
    assert set(told[150:]) == {"quality: high, speed: fast"}
    metadata = metadata_of(frames, OPTIONS)
    assert np.array_equal(metadata.drawn_as == Indicator.POSITIVE, [text != "quality: low" for text in told])
    assert set(metadata.speed[60:150]) == {NOT_SAID}


def test_a_share_of_the_samples_is_told_nothing_and_of_the_others_a_part_is_missing(make_table, sketch) -> None:
    frames = make_table([sketch(length=100, is_success=True)] * 100)
    told = texts(frames, MetadataOptions(dropout=0.15, part_dropout=0.05))
    share = {text: told.count(text) / len(told) for text in set(told)}
    assert share[""] == pytest.approx(0.15 + 0.85 * 0.05**2, abs=0.02)
    assert share["quality: high"] == pytest.approx(0.85 * 0.05 * 0.95, abs=0.01)
    assert share["speed: fast"] == pytest.approx(0.85 * 0.05 * 0.95, abs=0.01)
    assert share["quality: high, speed: fast"] == pytest.approx(0.85 * 0.95**2, abs=0.02)
    assert texts(frames, MetadataOptions(), seed=3) == texts(frames, MetadataOptions(), seed=3)
    assert texts(frames, MetadataOptions(), seed=3) != texts(frames, MetadataOptions(), seed=4)


def test_the_policy_is_asked_for_the_best_in_a_plain_sentence() -> None:
    assert with_told("open the drawer", MetadataOptions().asked) == "open the drawer, quality: high, speed: fast"
    assert with_told("open the drawer", told_text({})) == "open the drawer"


@pytest.mark.parametrize(
    "args", [{"speeds": ()}, {"speeds": ("fast", "fast")}, {"speeds": ("",)}, {"dropout": 1.0}, {"part_dropout": -0.1}]
)
def test_metadata_that_says_nothing_is_refused(args: dict) -> None:
    with pytest.raises(OptionError, match=r"improve\.args"):
        MetadataOptions(**args)


def test_a_loop_without_a_value_function_plans_none_and_refuses_what_needs_one() -> None:
    options = LoopOptions.from_config(compose_config("loop", ["improve=metadata", "iterations=1"]))
    assert not [name for name in planned_stages(options) if name.startswith(("value", "label"))]
    for wrong in ("+value.labels.demonstration_share=0.3", "improve.indicator=positive", "improve.args.speeds=[]"):
        with pytest.raises(OptionError, match=r"improve=metadata|improve\.args"):
            LoopOptions.from_config(compose_config("loop", ["improve=metadata", wrong]))
