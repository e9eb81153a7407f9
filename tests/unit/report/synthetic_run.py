"""The events of an invented two-iteration run, as a loop would write them; the report and screen tests read it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from opentau import control, events

START_T = 1_790_000_000.0
RUN_ID = "object-0-a1b2c3"
WORKS = {
    "demonstrations-0": 160.0,
    "sft-0": 310.0,
    "evaluate-0": 75.0,
    "collect-1": 150.0,
    "value-1": 85.0,
    "label-1": 9.0,
    "update-1": 260.0,
    "gate-1": 140.0,
    "collect-2": 120.0,
    "value-2": 95.0,
    "label-2": 11.0,
    "update-2": 265.0,
    "gate-2": 180.0,
    "final-0": 70.0,
    "final-2": 60.0,
}
EPISODES = {
    "demonstrations-0": 60,
    "evaluate-0": 40,
    "collect-1": 48,
    "collect-2": 48,
    "gate-1": 80,
    "gate-2": 200,
    "final-0": 50,
    "final-2": 50,
}
SUCCESS = {"demonstrations-0": 1.0, "evaluate-0": 0.45, "collect-1": 0.6, "collect-2": 0.75, "gate-1": 0.6, "gate-2": 0.72}
SCORES = {
    "evaluate-0": [(0, events.CANDIDATE, "sft-0@5c1d", 40, 18, (0.307, 0.602), 8960.0)],
    "gate-1": [
        (1, events.INCUMBENT, "sft-0@5c1d", 40, 17, (0.285, 0.578), 9120.0),
        (1, events.CANDIDATE, "update-1@77e0", 40, 29, (0.572, 0.839), 7010.0),
    ],
    "gate-2": [
        (2, events.INCUMBENT, "update-1@77e0", 100, 71, (0.615, 0.790), 17800.0),
        (2, events.CANDIDATE, "update-2@e41b", 100, 77, (0.679, 0.842), 16400.0),
    ],
    "final-0": [(0, events.FINAL, "sft-0@5c1d", 50, 23, (0.330, 0.596), 11300.0)],
    "final-2": [
        (2, events.FINAL, "update-1@77e0", 50, 36, (0.583, 0.825), 8900.0),
    ],
}
VERDICTS = {
    "gate-1": (
        1,
        "better",
        40,
        14,
        2,
        0.0021,
        "The candidate won 14 of 16 discordant pairs; promoted at the second look.",
        True,
    ),
    "gate-2": (
        2,
        "undecided",
        100,
        17,
        11,
        0.172,
        "Six more wins than losses are within chance; the observed difference would need about 420 pairs. The incumbent stays.",
        False,
    ),
}


def run_events(*, until: str = "", is_promoted: bool = True) -> list[dict[str, Any]]:
    """Return the events in time order, up to the middle of the stage named `until`; '' for the finished run.

    Without promotion both verdicts keep the incumbent, and the final policy is iteration 0's.
    """
    run = list(_events(is_promoted=is_promoted))
    if not until:
        return run
    middle = [i for i, event in enumerate(run) if event.get("stage") == until and event["kind"] == events.STAGE_PROGRESS]
    return run[: middle[len(middle) // 2] + 1]


def _events(*, is_promoted: bool) -> Iterator[dict[str, Any]]:
    t = START_T
    plan = list(WORKS)
    expected = {stage: round(1.1 * seconds) for stage, seconds in WORKS.items()}
    command = "opentau loop env=libero/object task_id=0"
    yield _event(t, events.RUN_STARTED, run_id=RUN_ID, command=command, plan=plan, resumed=False, expected_s=expected)
    for stage, seconds in WORKS.items():
        iteration = int(stage[-1]) if stage[-1].isdigit() else None
        yield _event(t, events.STAGE_STARTED, stage=stage, iteration=iteration)
        yield from _work(stage, iteration, t, seconds)
        t += seconds
        for row in SCORES.get(stage, ()):
            stays = stage == "final-2" and not is_promoted
            yield _evaluated(t, stage, (row[0], *SCORES["final-0"][0][1:]) if stays else row)
        if stage in VERDICTS:
            yield _verdict(t, VERDICTS[stage], is_promoted=is_promoted)
        finished: dict[str, Any] = {
            "stage": stage,
            "iteration": iteration,
            "is_reused": stage == "demonstrations-0",
            "summary": {},
        }
        yield _event(t, events.STAGE_FINISHED, seconds=seconds, cpu_seconds=1.7 * seconds, **finished)
    yield _event(t, events.RUN_FINISHED, seconds=t - START_T, cpu_seconds=1.72 * (t - START_T))


def _work(stage: str, iteration: int | None, t: float, seconds: float) -> Iterator[dict[str, Any]]:
    if stage not in EPISODES:
        yield from () if stage.startswith("label") else _training(stage, iteration, t, seconds)
        return
    rng, total = np.random.default_rng(sum(stage.encode())), EPISODES[stage]
    for station in range(3):
        yield _event(t, events.STATION, station=f"station-{station}", state="connected", text="libero_object/0, 64 px")
    for i in range(total):
        now = t + seconds * (i + 1) / total
        is_success = bool(rng.random() < SUCCESS.get(stage, 0.6))
        intervened = int(rng.integers(10, 60)) if stage.startswith("collect") and i % 3 == 0 else 0
        outcome, steps = ("success", int(rng.integers(110, 240))) if is_success else ("timeout", 280)
        ids = {"stage": stage, "episode_id": f"{stage}/{i:06d}", "station": f"station-{i % 3}"}
        yield _event(now, events.EPISODE_FINISHED, outcome=outcome, num_steps=steps, num_intervention_steps=intervened, **ids)
        yield _event(now, events.STAGE_PROGRESS, stage=stage, iteration=iteration, done=i + 1, total=total, unit="episodes")
        if stage == "collect-1" and i == 7:
            yield _event(now, events.STATION, station="station-1", state="lost", text="no heartbeat for 10 s")
            yield _event(now, events.STATION, station="station-1", state="replaced", text="its episode is redone")


def _training(stage: str, iteration: int | None, t: float, seconds: float) -> Iterator[dict[str, Any]]:
    rng, total = np.random.default_rng(sum(stage.encode())), 400
    is_critic = stage.startswith("value")
    for update in range(0, total + 1, 10):
        now, noise = t + seconds * update / total, float(rng.normal(0, 0.01))
        loss = 0.12 + 1.1 * math.exp(-update / 60) + noise
        names = ("value/loss",) if is_critic else ("train/loss", "train/loss_fast")
        metrics = {name: loss * (3.2 if name == "train/loss_fast" else 1.0) for name in names}
        metrics |= {} if is_critic else {"train/grad_norm": 1 + noise}
        yield _event(now, events.TRAIN_METRICS, stage=stage, update=update, metrics=metrics)
        yield _event(now, events.STAGE_PROGRESS, stage=stage, iteration=iteration, done=update, total=total, unit="updates")


def _evaluated(t: float, stage: str, row: tuple[Any, ...]) -> dict[str, Any]:
    names = ("iteration", "role", "policy", "episodes", "successes", "interval", "simulated_s")
    fields = dict(zip(names, row, strict=True))
    spec = "official-9f31c2" if stage.startswith("final") else "placements-04ab7e"
    return _event(t, events.EVALUATED, stage=stage, eval_spec=spec, **fields | {"interval": list(fields["interval"])})


def _verdict(t: float, row: tuple[Any, ...], *, is_promoted: bool) -> dict[str, Any]:
    names = ("iteration", "verdict", "pairs", "wins", "losses", "p_value", "text", "promoted")
    fields = dict(zip(names, row, strict=True))
    if not is_promoted:
        fields |= {"verdict": "not better", "wins": 4, "losses": 6, "p_value": 0.83, "promoted": False}
        fields["text"] = "The incumbent led at the second look, so the test ended and the incumbent stays."
    return _event(t, events.VERDICT, **fields)


def command_event(t: float, verb: str, state: str, text: str = "") -> dict[str, Any]:
    """Return the echo of a command."""
    assert verb in control.VERBS
    return _event(t, events.COMMAND, verb=verb, args={}, state=state, text=text)


def _event(t: float, kind: str, **fields: Any) -> dict[str, Any]:
    return {"t": t, "process": "loop", "kind": kind, **fields}
