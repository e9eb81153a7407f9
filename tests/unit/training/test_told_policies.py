"""Policies that are told how an episode went: what their batches say, and what they are told when they act."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from opentau.checkpoint import building
from opentau.data.batches import BatchSource
from opentau.data.codec import Codec
from opentau.data.frames import FrameTable
from opentau.data.sampler import PositiveDraw
from opentau.errors import OptionError
from opentau.policies.options import InferenceOptions
from opentau.policies.policy import VLAPolicy
from opentau.policies.processor import Processor
from opentau.training.policy import PolicyData, train_policy
from opentau.types import Indicator, Observation, PolicyRequest, Source
from opentau.value.metadata import MetadataOptions, metadata_of
from opentau.value.table import ValueTable
from tests.fakes import CountingEnv, counting_interface
from tests.unit.training.test_policy_training import CONFIG, IMAGE_SIZE, TRAINING, attempt

METADATA = MetadataOptions(dropout=0.1)
TOLD = replace(TRAINING, served_indicator=Indicator.ABSENT, served_text=METADATA.asked)


def table_of_both() -> FrameTable:
    """Attempts that go to their target, and as many that go away from it and fail."""
    towards = [attempt(number, source=Source.AUTONOMOUS) for number in range(24)]
    away = [attempt(number, source=Source.AUTONOMOUS, backwards=True) for number in range(24, 48)]
    return FrameTable.from_episodes(towards + away, dataset_id="both")


def told(table: FrameTable) -> PolicyData:
    metadata = metadata_of(ValueTable(table=table, max_steps={task: 20 for task in table.task_ids}), METADATA)
    return PolicyData(
        table=table,
        interface=counting_interface(IMAGE_SIZE),
        telling=metadata.telling(METADATA),
        drawn_as=metadata.drawn_as,
    )


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a policy that was told how each of its episodes went."""
    folder = tmp_path_factory.mktemp("told")
    with building(folder / "policy", {}) as partial:
        train_policy(told(table_of_both()), start=CONFIG, training=TOLD, seed=7, directory=partial, work_dir=folder / "work")
    return folder / "policy"


def answer(policy: Path, prompt: str, told: str | None) -> np.ndarray:
    """The chunk of a policy that is asked with a prompt and told something."""
    seen, _ = CountingEnv(image_size=IMAGE_SIZE).reset(seed=3)
    observation = Observation(images=seen["images"], state=seen["state"], prompt=prompt, time_s=0.0)
    loaded = VLAPolicy.load(policy, options=InferenceOptions(told=told))
    return loaded.infer([PolicyRequest(observation=observation, episode_seed=1, tick=0)])[0].actions


def test_what_it_is_told_stands_behind_the_task_and_is_what_its_training_names(policy: Path) -> None:
    asked = answer(policy, "reach target 0", None)
    assert np.array_equal(asked, answer(policy, "reach target 0, quality: high, speed: fast", ""))
    assert np.array_equal(asked, answer(policy, "reach target 0", "quality: high, speed: fast"))
    assert not np.array_equal(asked, answer(policy, "reach target 0", ""))
    assert not np.array_equal(asked, answer(policy, "reach target 0", "quality: low"))


def test_a_checkpoint_says_what_its_policy_is_told_and_others_say_nothing_of_it(policy: Path, tmp_path: Path) -> None:
    assert json.loads((policy / "config.json").read_text())["served_text"] == "quality: high, speed: fast"
    processor = Processor.load(policy)
    assert processor.served_text == METADATA.asked
    assert processor.serving(processor.embodiment.name).served_text == METADATA.asked
    processor.served_text = ""
    processor.save(tmp_path)
    assert "served_text" not in json.loads((tmp_path / "config.json").read_text())


def test_what_the_critic_reads_of_a_policy_is_the_plain_task(policy: Path) -> None:
    plain = VLAPolicy.load(policy, options=InferenceOptions(told=""), batch_size=1)
    asking = VLAPolicy.load(policy, batch_size=1)
    assert (plain.reads_plain_task, asking.reads_plain_task) == (True, False)


def test_batches_say_what_is_told_and_draw_what_succeeded_as_often_as_asked() -> None:
    table = table_of_both()
    data, codec = told(table), Codec.from_statistics(table.statistics())
    source = BatchSource(
        table, codec=codec, horizon=4, batch_size=200, seed=1, positives=PositiveDraw(share=0.9), telling=data.telling,
        drawn_as=data.drawn_as,
    )  # fmt: skip
    batch = source(0)
    succeeded = np.array([table.episodes[episode].is_success for episode in table.episode[batch.frame]])
    assert succeeded.mean() == pytest.approx(0.9, abs=0.01)
    assert set(batch.indicator) == {Indicator.ABSENT}
    assert {"quality: low" in prompt for prompt, won in zip(batch.prompt, succeeded, strict=True) if won} == {False}
    assert {"quality: high" in prompt for prompt, won in zip(batch.prompt, succeeded, strict=True) if not won} == {False}
    assert np.mean([prompt == "reach target 0" for prompt in batch.prompt]) == pytest.approx(0.1, abs=0.07)
    assert source(0).prompt == batch.prompt


def test_a_task_that_leaves_no_room_for_words_is_refused_when_it_is_read(tmp_path: Path) -> None:
    short = replace(CONFIG, max_prompt_tokens=8)
    with pytest.raises(OptionError, match="max_prompt_tokens"):
        train_policy(
            told(table_of_both()), start=short, training=TOLD, seed=7, directory=tmp_path / "p", work_dir=tmp_path / "w"
        )
