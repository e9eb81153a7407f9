"""The ledger: results survive a kill, and its bytes do not depend on who finished first."""

from __future__ import annotations

from pathlib import Path

from opentau.loop.ledger import Ledger, read_results
from opentau.types import Actor, EpisodePlan, EpisodeResult, Outcome


def plan(index: int) -> EpisodePlan:
    return EpisodePlan(index=index, episode_id=f"e/{index}", task_id="t", seed=2**62 + index, actor=Actor.POLICY)


def result(index: int) -> EpisodeResult:
    return EpisodeResult(
        plan=plan(index), outcome=Outcome.SUCCESS, num_steps=index, num_intervention_steps=0, policy_version="p", digest="d"
    )


def test_what_was_added_is_not_missing_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    Ledger(path).add(result(1))
    again = Ledger(path)
    assert [p.index for p in again.missing([plan(0), plan(1)])] == [0]
    assert again.results([plan(1)]) == [result(1)]


def test_a_torn_last_line_counts_as_not_written(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    Ledger(path).add(result(0))
    path.write_bytes(path.read_bytes() + b'{"plan": {"index": 1, "epi')
    torn = Ledger(path)
    assert [p.index for p in torn.missing([plan(0), plan(1)])] == [1]
    torn.add(result(1))
    assert read_results(path) == [result(0), result(1)]


def test_the_order_of_arrival_leaves_no_trace(tmp_path: Path) -> None:
    for name, order in (("one", (0, 1, 2)), ("two", (2, 0, 1))):
        ledger = Ledger(tmp_path / name)
        for index in order:
            ledger.add(result(index))
        ledger.write_ordered(ledger.results([plan(i) for i in range(3)]))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
