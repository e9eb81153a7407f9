"""What a fold keeps: the episodes of a stage as numbers, and the types of its whole state."""

from __future__ import annotations

from collections import Counter
from typing import TypedDict

from opentau.labelfacts import LabelFacts
from opentau.runstate import EpisodeFacts, LogLine, RunSummary, Score, StageState, StationState, Tally, Verdict
from opentau.types import Outcome

Played = tuple[str, int, int, float, str]
"""What an episode adds to its stage's tally: outcome, steps, steps intervened, a person's seconds, task id."""


def count_episode(tally: Counter[str], played: Played, sign: int) -> None:
    """Add an episode to a stage's numbers, or take it away."""
    outcome, steps, helped, human_s, task_id = played
    tally["steps"] += sign * steps
    tally["intervention_steps"] += sign * helped
    tally["intervened"] += sign * (helped > 0)
    tally["human_ms"] += sign * round(1000 * human_s)
    tally[f"outcome {outcome}"] += sign
    if task_id:
        tally[f"task {outcome == Outcome.SUCCESS:d} {task_id}"] += sign


def tally_of(counts: Counter[str]) -> Tally:
    """Return the numbers of a stage."""
    outcomes = {name[8:]: count for name, count in counts.items() if name.startswith("outcome ") and count}
    tasks: dict[str, tuple[int, int]] = {}
    for name, count in counts.items():
        if name.startswith("task ") and count:
            successes, episodes = tasks.get(name[7:], (0, 0))
            tasks[name[7:]] = (successes + (count if name[5] == "1" else 0), episodes + count)
    return Tally(
        num_episodes=sum(outcomes.values()),
        num_successes=outcomes.get(Outcome.SUCCESS, 0),
        num_steps=counts["steps"],
        num_intervention_steps=counts["intervention_steps"],
        num_intervened=counts["intervened"],
        human_s=counts["human_ms"] / 1000,
        outcomes=outcomes,
        tasks=tasks,
    )


class FoldState(TypedDict):
    """Everything that a fold holds, and as what, for `RunFold.encoded`; one attribute a line."""

    _run: RunSummary
    _last_t: float
    _num_damaged: int
    _stages: dict[str, StageState]
    _played: dict[str, dict[str, Played]]
    _tallies: dict[str, dict[str, int]]
    _scores: dict[str, Score]
    _verdicts: dict[int, Verdict]
    _labelled_by: dict[int, LabelFacts]
    _stations: dict[str, StationState]
    _curves: dict[str, dict[str, list[tuple[int, float]]]]
    _episodes: dict[str, list[EpisodeFacts]]
    _log: list[LogLine]
    _run_cpu_seconds: float
