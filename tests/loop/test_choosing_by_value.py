"""A value stage fits a critic of observation and chunk, and an evaluation chooses by it, alike alone and in company."""

from __future__ import annotations

from pathlib import Path

import pytest

from opentau.loop.ledger import read_results
from tests.loop.driving import opentau

pytestmark = pytest.mark.cycles

TINY = ("experiment=tiny",)


def digests(runs: Path) -> list[str]:
    return [result.digest for result in read_results(next(runs.glob("eval-*/stages/evaluate-0-*/episodes.jsonl")))]


@pytest.mark.timeout(600)
def test_chunks_are_chosen_by_a_critic_that_a_value_stage_fitted(tmp_path: Path) -> None:
    smaller = ("data.demonstrations=4", "sft.num_updates=10", "collect.episodes=4", "run_id=run", "+value.scores_chunks=true")
    value = opentau(tmp_path, "value", *TINY, *smaller)
    assert {"value/chunk_error", "value/chunk_error_of_others"} <= set(value["summary"])
    policy = next((tmp_path / "run" / "stages").glob("sft-0-*"))
    choice = ("inference.num_candidates=3", "inference.chosen_by=value", f"inference.critic={value['path']}")

    def score(name: str, *options: str) -> list[str]:
        scored = opentau(tmp_path / name, "eval", str(policy), *TINY, *options, "--episodes=4")
        assert scored["errors"] == 0
        return digests(tmp_path / name)

    alone = score("alone", *choice, "rollout.num_stations=1")
    assert alone == score("company", *choice, "rollout.num_stations=3")
    # The same noise, another choice.
    assert alone != score("agreed", "inference.num_candidates=3")
