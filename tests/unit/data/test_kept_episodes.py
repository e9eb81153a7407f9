"""What learning leaves out of recorded episodes: what people discarded, and what was aborted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from opentau.control import DISCARD
from opentau.loop.frames import kept
from opentau.types import Outcome

ENDED = (Outcome.SUCCESS, Outcome.ABORTED, Outcome.FAILURE)


@pytest.fixture
def recorded(make_episode, open_writer, tmp_path) -> Path:
    writer = open_writer(tmp_path / "dataset")
    for number, outcome in enumerate(ENDED):
        writer.add(number, make_episode(number, outcome=outcome))
    writer.finish()
    return tmp_path / "dataset"


@pytest.mark.parametrize(
    ("said", "numbers"),
    [
        ({}, [0, 2]),
        ({2: DISCARD}, [0]),
        ({1: "failure"}, [0, 1, 2]),
        ({0: DISCARD, 1: "success"}, [1, 2]),
    ],
)
def test_aborted_and_discarded_episodes_are_left_out_unless_a_person_judged_them(
    recorded: Path, said: Mapping[int, str], numbers: list[int]
) -> None:
    outcomes = {f"collect-1/{number:06d}": outcome for number, outcome in said.items()}
    dataset = kept(recorded, outcomes, with_images=False)
    assert dataset is not None
    assert [info.index for info in dataset.episodes] == numbers


def test_a_dataset_of_which_nothing_is_left_is_none(recorded: Path) -> None:
    assert kept(recorded, {f"collect-1/{number:06d}": DISCARD for number in (0, 2)}, with_images=False) is None
