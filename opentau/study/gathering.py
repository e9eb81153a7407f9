"""From a finished run's directory to its rows, one a task: outcomes, measures, curves and processor time."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from opentau.checkpoint import read_manifest
from opentau.errors import DataError
from opentau.events import EventReader
from opentau.loop.ledger import LEDGER_FILE, read_results
from opentau.loop.run import STAGES_FOLDER, STATE_FILE
from opentau.runfold import fold
from opentau.study.plan import RunPlan
from opentau.study.rows import COLLECT_PREFIX, FINAL, FIRST, PolicyScore, Row

CURVES = ("train/held_out_loss", "train/cond_gap")
FACT_PREFIXES = ("train/", "value/", "positive_")
COLLECTED = ("episodes", "steps")
"""Facts of the stages that collect."""
FACTS = ("autonomous_successes", "autonomous", "intervention_steps", "wins", "losses", "pairs")

Curves = Mapping[str, tuple[tuple[float, float], ...]]


def gather_rows(
    plan: RunPlan, run: Path, *, known_curves: Mapping[str, Curves], paid: Collection[str]
) -> tuple[tuple[Row, ...], dict[str, Curves]]:
    """Return the rows of a finished run, and the curves of its stages by stage directory.

    `known_curves` are those of stages that an earlier run of the cell made and this one shares, `paid` the directories of
    all stages that earlier runs rest on.
    """
    directories = stage_directories(run)
    manifests = {name: read_manifest(run / STAGES_FOLDER / directory) for name, directory in directories.items()}
    curves = {**known_curves, **_own_curves(run, directories)}
    scores = {
        name: _scores(run / STAGES_FOLDER / directories[name], manifests[name], num_tasks=len(plan.tasks))
        for name in directories
        if _is_score(name)
    }
    last = max(int(name.rsplit("-", 1)[1]) for name in scores)
    cpu_seconds = sum(manifest["cpu_seconds"] for manifest in manifests.values())
    own_cpu_seconds = sum(manifests[name]["cpu_seconds"] for name, stage in directories.items() if stage not in paid)
    rows = tuple(
        Row(
            variant=plan.variant,
            task=task,
            seed=plan.seed,
            options_id=plan.options_id,
            run=run.name,
            scores={_score_name(name, last=last): by_task[number] for name, by_task in scores.items()},
            cpu_seconds=cpu_seconds / len(plan.tasks),
            own_cpu_seconds=own_cpu_seconds / len(plan.tasks),
            facts=_facts(manifests),
            curves={
                f"{stage} {metric}": points
                for stage, directory in directories.items()
                for metric, points in curves.get(directory, {}).items()
            },
        )
        for number, task in enumerate(plan.tasks)
    )
    return rows, curves


def stage_directories(run: Path) -> dict[str, str]:
    """Return the directory of every stage of a run, by the stage's name."""
    return {name: stage["directory"] for name, stage in json.loads((run / STATE_FILE).read_text())["stages"].items()}


def _is_score(stage: str) -> bool:
    return stage.startswith("final")


def _score_name(stage: str, *, last: int) -> str:
    """Return 'first', 'final' or 'final-<indicator>' for a stage such as 'final-0', 'final-2' or 'final-negative-2'."""
    name, _, iteration = stage.rpartition("-")
    return FIRST if name == FINAL and int(iteration) == 0 and last > 0 else name


def _scores(stage: Path, manifest: Mapping[str, Any], *, num_tasks: int) -> list[PolicyScore]:
    """Return the score on every task of the run, in the order of its options."""
    results, summary = read_results(stage / LEDGER_FILE), manifest["content"]["summary"]
    tasks = manifest["content"]["inputs"]["tasks"]
    if len(tasks) != num_tasks:
        raise DataError(
            f"{stage} scored {len(tasks)} tasks, the study asks for {num_tasks}; delete it and start the study again"
        )
    played = [[result for result in results if result.plan.task_id == task] for task in tasks]
    return [
        PolicyScore(
            policy=summary["policy"],
            eval_spec=summary["eval_spec"],
            max_steps=summary["max_steps"],
            control_hz=summary["control_hz"],
            is_success=tuple(result.is_success for result in of_task),
            num_steps=tuple(result.num_steps for result in of_task),
        )
        for of_task in played
    ]


def _own_curves(run: Path, directories: Mapping[str, str]) -> dict[str, Curves]:
    """Return the curves of the stages that this run made itself, by stage directory."""
    found: dict[str, dict[str, tuple[tuple[float, float], ...]]] = {}
    for curve in fold(EventReader(run).read_new()).curves:
        if curve.metric in CURVES and curve.stage in directories:
            points = tuple((float(update), float(value)) for update, value in curve.points)
            found.setdefault(directories[curve.stage], {})[curve.metric] = points
    return dict(found)


def _facts(manifests: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the measures of all stages as '<stage> <metric>'."""
    return {
        f"{stage} {name}": float(value)
        for stage, manifest in manifests.items()
        for name, value in manifest["content"]["summary"].items()
        if name in FACTS or name.startswith(FACT_PREFIXES) or (name in COLLECTED and stage.startswith(COLLECT_PREFIX))
    }
