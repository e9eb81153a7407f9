"""Runs in every state that a screen must show: recorded ones of an invented loop, with facts for every panel."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from opentau import control, events
from opentau.control import LocalRunClient
from opentau.labelfacts import LabelFacts, label_facts
from opentau.runfiles import Film, Live, StageFiles
from opentau.types import Indicator, Source
from tests.unit.report.synthetic_run import RUN_ID, WORKS, run_events

POLICIES = {"sft-0": "sft-0@5c1d", "update-1": "update-1@77e0", "update-2": "update-2@e41b"}
"""Content ids, as the invented run's scores name them."""
TASKS = ("libero_object/0", "libero_object/3")


def told_events(*, until: str = "") -> list[dict[str, Any]]:
    """Return the events of the invented run with everything that newer programs tell: tasks, labels, clamps, the machine."""
    told: list[dict[str, Any]] = []
    number = 0
    for event in map(dict, run_events(until=until)):
        if event["kind"] == events.EPISODE_FINISHED:
            number += 1
            event |= {"task_id": TASKS[number % 2], "num_clipped_actions": number % 3, "num_refused_chunks": number % 2}
        elif event["kind"] == events.STAGE_PROGRESS and event["unit"] == "updates":
            event["machine"] = {"machine/updates_per_s": 1.5, "machine/cpu": 1.0, "machine/memory_gb": 2.5}
        elif event["kind"] == events.STAGE_FINISHED:
            event["summary"] = stage_summary(event["stage"])
            if event["stage"].startswith("label"):
                iteration = event["iteration"]
                facts = facts_of(iteration).to_event()
                told.append({"t": event["t"], "process": "loop", "kind": events.LABELLED, "stage": event["stage"], **facts})
        told.append(event)
    return told


def stage_summary(stage: str) -> dict[str, Any]:
    """Return what a stage says of its result."""
    tasks = {task: {"episodes": 20, "successes": 9 + 4 * i, "interval": [0.3, 0.7]} for i, task in enumerate(TASKS)}
    if stage.startswith("gate"):
        return {"verdict": "better", "candidate": {"tasks": tasks}, "incumbent": {"tasks": tasks}}
    if stage.startswith(("evaluate", "final")):
        return {"tasks": tasks}
    if stage.startswith("value"):
        return {"value/auroc": 0.9234, "value/calibration_error": 0.0412, "value/spearman": 0.7712}
    return {"updates": 400} if stage.startswith(("sft", "update")) else {}


def facts_of(iteration: int) -> LabelFacts:
    """Return the labels of 3000 invented frames."""
    rng = np.random.default_rng(iteration)
    source = np.repeat([Source.DEMONSTRATION, Source.AUTONOMOUS, Source.INTERVENTION], [800, 2000, 200])
    values = -rng.random(3000)
    advantages = rng.normal(0.05 * iteration, 0.2, 3000)
    indicator = np.where((advantages > 0.1) | (source != Source.AUTONOMOUS), Indicator.POSITIVE, Indicator.NEGATIVE)
    returns = np.clip(values + rng.normal(0, 0.1, 3000), -1, 0)
    columns = {"source": source, "advantages": advantages, "indicator": indicator, "values": values, "returns": returns}
    return label_facts(iteration=iteration, thresholds=dict.fromkeys(TASKS, 0.1), **columns)


class InventedFiles:
    """The directory of the invented run: pictures that are gradients, values that rise, options that change once."""

    def stages(self) -> Mapping[str, StageFiles]:
        return {
            stage: StageFiles(
                stage=stage,
                content_id=POLICIES.get(stage, f"{number:064x}"),
                num_bytes=1_000_000 * (number + 1),
                inputs={"train": {"learning_rate": 4e-4 if stage != "update-2" else 2e-4}, "episodes": [f"{number:064x}"]},
            )
            for number, stage in enumerate(WORKS)
            if "-" in stage
        }

    def labels(self, iteration: int) -> LabelFacts | None:
        return facts_of(iteration)

    def film(self, stage: str, episode_id: str, *, num_pictures: int, camera: str | None = None) -> Film | None:
        if not stage.startswith("collect"):
            return None
        length, seed = 120, int(episode_id[-2:])
        ticks = np.unique(np.linspace(0, length - 1, max(1, num_pictures)).round().astype(int))
        ramp = np.linspace(0, 255, 32).astype(np.uint8)
        pictures = np.stack([np.stack([np.roll(np.tile(ramp, (32, 1)), 2 * tick + seed, 1)] * 3, -1) for tick in ticks])
        source = np.full(length, Source.AUTONOMOUS, np.int8)
        source[60:80] = Source.INTERVENTION
        return Film(
            stage=stage,
            episode_id=episode_id,
            outcome="success",
            prompt="pick up the alphabet soup",
            cameras=("agentview", "wrist"),
            camera=camera or "agentview",
            ticks=tuple(ticks.tolist()),
            pictures=pictures if num_pictures else pictures[:0],
            source=source,
            values=np.linspace(-0.8, -0.05, length, dtype=np.float32),
            advantages=np.zeros(length, np.float32),
        )

    def live(self, station: str) -> Live | None:
        return None


class Unreachable(LocalRunClient):
    """A link that brings what there is once, and then is gone."""

    num_calls = 0

    def new_events(self, limit: int | None = None) -> list[dict[str, Any]]:
        self.num_calls += 1
        new = super().new_events(limit)
        if not new and self.num_calls > 1:
            raise ConnectionError("no route to host")
        return new


@dataclass(frozen=True)
class State:
    """A run in some state."""

    name: str
    make: Callable[[], list[dict[str, Any]]]
    sees: str
    """On every screen once the run was read."""
    client: Callable[[Path], LocalRunClient] = LocalRunClient
    rest: str = ""
    """Written after the events as it is."""
    later_s: float = field(default=0.0)
    """How long after its newest event it is looked at."""


def _no_stations() -> list[dict[str, Any]]:
    return [event for event in told_events(until="update-1") if event["kind"] not in (events.STATION, events.EPISODE_FINISHED)]


def _one_station() -> list[dict[str, Any]]:
    return [event | {"station": "station-0"} if "station" in event else event for event in told_events(until="collect-1")]


def _many_stations() -> list[dict[str, Any]]:
    run = told_events(until="collect-2")
    for number, event in enumerate(run):
        if "station" in event:
            run[number] = event | {"station": f"station-{number % 64}"}
    stations = {event["station"] for event in run if "station" in event}
    missing = [f"station-{number}" for number in range(64) if f"station-{number}" not in stations]
    t = run[-1]["t"]
    return [
        *run,
        *(
            {"t": t, "process": "loop", "kind": events.STATION, "station": name, "state": "connected", "text": ""}
            for name in missing
        ),
    ]


def _stopped() -> list[dict[str, Any]]:
    run = told_events(until="collect-2")
    command = {"verb": control.STOP_ROBOT, "args": {"station": "station-0"}, "state": "done", "text": "it stopped"}
    return [*run, {"t": run[-1]["t"], "process": "loop", "kind": events.COMMAND, **command}]


STATES = (
    State("no-stations", _no_stations, "● running"),
    State("one-station", _one_station, "● running"),
    State("many-stations", _many_stations, "● running"),
    State("stale-link", _stopped, "cannot follow the run", client=Unreachable, later_s=45.0),
    State("stop-latched", _stopped, "● running"),
    State("finished", told_events, "✓ finished"),
    State("empty", list, "○ waiting"),
    State(
        "damaged",
        lambda: [*told_events(until="gate-1"), {"t": 1.0, "process": "x", "kind": events.VERDICT}],
        "● running",
        rest='{"t": 1790000000, "kind": "no\n\x00\xff rubbish\n',
    ),
)


def write_run(folder: Path, state: State) -> float:
    """Write a state's log and return when it is looked at."""
    run = state.make()
    target = folder / "events"
    target.mkdir(parents=True)
    with open(target / "main-1.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(event) + "\n" for event in run)
        file.write(state.rest)
    return max((event["t"] for event in run), default=1_790_000_000.0) + state.later_s


__all__ = ["RUN_ID", "STATES", "InventedFiles", "State", "told_events", "write_run"]
