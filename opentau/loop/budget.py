"""What a run will cost before it starts: CPU-minutes and disk of every stage, from figures measured on two shared cores."""

from __future__ import annotations

from dataclasses import dataclass

from opentau.config import build
from opentau.loop.options import LoopOptions
from opentau.loop.plans import GUARD, planned_stages
from opentau.runstate import iteration_of

EXPECTED_PAIRS = 40
"""A gate stops early; this many pairs are usual."""
EXPECTED_STEPS = 180
"""Control steps of a usual recorded episode."""
NOISE_UPDATE_CPU_S = 0.006
"""An update of improve=dsrl."""
BUSY_CORES = 1.5
"""How many of two cores a run keeps busy on average."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCost:
    """One line of the plan."""

    stage: str
    cpu_s: float
    disk_bytes: int
    work: str
    """What it does, in words."""

    @property
    def expected_s(self) -> float:
        """Return the expected seconds on two cores."""
        return self.cpu_s / BUSY_CORES


def estimate(options: LoopOptions) -> list[StageCost]:
    """Return the expected cost of every stage; a real run prints what it spent."""
    return [_stage_cost(name, options) for name in planned_stages(options)]


def _stage_cost(name: str, options: LoopOptions) -> StageCost:
    tasks, env, iteration = len(options.task_id), options.env, iteration_of(name) or 0
    recorded = EXPECTED_STEPS * env.cost.frame_bytes
    demonstrations, collected = options.data.demonstrations * tasks, options.collect.episodes * tasks
    kind = name.split("-")[0]
    if kind == "demonstrations":
        words = f"{demonstrations} scripted demonstrations" + (
            f" and {len(options.data.datasets)} datasets" if options.data.datasets else ""
        )
        return StageCost(
            stage=name, cpu_s=demonstrations * env.cost.demonstration_cpu_s, disk_bytes=demonstrations * recorded, work=words
        )
    if kind in ("sft", "update"):
        updates = (options.sft if kind == "sft" else options.update).num_updates
        cpu_s = updates * options.cost.update_cpu_s
        if kind == "update" and options.steers_noise:
            updates = build(options.improve.spec).num_updates
            cpu_s = updates * NOISE_UPDATE_CPU_S + collected * EXPECTED_STEPS * options.cost.feature_cpu_s
        return StageCost(
            stage=name,
            cpu_s=cpu_s,
            disk_bytes=options.cost.checkpoint_bytes,
            work=f"{updates} updates",
        )
    if kind in ("value", "label"):
        frames = (demonstrations + iteration * collected) * EXPECTED_STEPS
        if kind == "label":
            return StageCost(stage=name, cpu_s=2.0, disk_bytes=frames * 16, work="advantages out of fold, indicators")
        fits = options.value.fit.num_folds + 1
        cpu_s = frames * options.cost.feature_cpu_s + fits * options.value.fit.num_updates * options.cost.critic_update_cpu_s
        return StageCost(stage=name, cpu_s=cpu_s, disk_bytes=fits * 1_000_000, work=f"{fits} critics, {frames} frames")
    if kind == "collect":
        return StageCost(
            stage=name, cpu_s=collected * env.cost.episode_cpu_s, disk_bytes=collected * recorded, work=f"{collected} episodes"
        )
    episodes = {
        "evaluate": options.evaluation.episodes * tasks,
        "gate": 2 * min(EXPECTED_PAIRS, options.gate.looks[-1]),
        GUARD: 2 * options.gate.guard_pairs,
        "final": (options.evaluation.final_states + options.evaluation.final_episodes) * tasks,
    }[kind]
    return StageCost(
        stage=name, cpu_s=episodes * env.cost.scored_episode_cpu_s, disk_bytes=episodes * 400, work=f"about {episodes} episodes"
    )
