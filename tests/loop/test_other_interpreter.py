"""An iteration of the loop on an environment that only another Python has, killed on the way and finished."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from opentau.events import EPISODE_FINISHED, EventReader
from tests.loop.driving import at_stage, finish, kill_when, stage_ids, start
from tests.other_python import EXPERT, TASKS, other_python

pytestmark = [pytest.mark.cycles, pytest.mark.timeout(1200)]
FEW = (
    *("data.demonstrations=4", "sft.num_updates=10", "update.num_updates=10", "value.fit.num_updates=5", "collect.episodes=4"),
    *("evaluation.episodes=2", "evaluation.final_states=2", "gate.looks=[2]", "gate.levels=[0.05]"),
)


def options(python: Path) -> list[str]:
    return [
        *FEW,
        *("experiment=tiny", "run_id=run", "iterations=1", "env=gymnasium", f"env.interpreter={python}"),
        *("env.args.suite=gliding", f"env.args.tasks={hydra(TASKS)}", "env.args.image_size=32", "env.args.max_steps=40"),
        *("env.args.state_indices=[0,1]", "env.args.success_key=is_there", f"env.expert={hydra(EXPERT)}"),
    ]


def hydra(value: object) -> str:
    """Write a value as Hydra reads it: keys without quotation marks."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {hydra(inner)}" for key, inner in value.items()) + "}"
    return "[" + ", ".join(map(hydra, value)) + "]" if isinstance(value, list) else json.dumps(value)


def test_an_iteration_runs_on_it_and_a_kill_changes_nothing(tmp_path):
    """Collection, evaluation and gate; the killed run goes on under a Python that was made anew in another place."""
    first, second = (other_python(tmp_path / name) for name in ("first", "second"))
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    finish(undisturbed, options(first))
    with start(disturbed, options(first)) as process:
        assert kill_when(process, disturbed / "run", at_stage("collect-1"))
    finish(disturbed, options(second))
    assert stage_ids(disturbed / "run") == stage_ids(undisturbed / "run")
    events = [event for event in EventReader(undisturbed / "run").read_new() if event["kind"] == EPISODE_FINISHED]
    played = {event["stage"]: event["task_id"] for event in events}
    assert {"demonstrations-0", "evaluate-0", "collect-1", "gate-1", "final-0"} <= set(played)
    assert set(played.values()) == {"gliding/0"}
    assert not [event for event in events if event["outcome"] == "error"]
