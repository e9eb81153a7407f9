"""What a study will cost: stages that rows of a cell share are paid once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from opentau.loop.budget import StageCost, estimate
from opentau.loop.options import LoopOptions
from opentau.runstate import iteration_of
from opentau.types import content_hash

# Groups of options that a kind of stage adds to what it depends on; it depends on all stages before it as well.
STAGE_GROUPS = {
    "demonstrations": ("env", "data", "seed", "task_id"),
    "sft": ("policy", "objective", "batch", "sft"),
    "value": ("value.critic", "value.fit", "value.takeover"),
    "evaluate": ("rollout", "inference", "evaluation"),
    "collect": ("collect", "rollout", "inference"),
    "label": ("improve.target", "improve.args", "value.lookahead", "value.labels"),
    "update": ("improve", "update"),
    "gate": ("gate",),
    "guard": ("gate",),
    "final": ("evaluation",),
}
SIDE_STAGES = ("evaluate", "final")
"""Nothing depends on them."""


def planned_cpu_s(rows: Iterable[LoopOptions]) -> float:
    """Return the expected CPU seconds of all rows together."""
    costs = {key: cost.cpu_s for options in rows for key, cost in _stages(options)}
    return sum(costs.values())


def _stages(options: LoopOptions) -> list[tuple[str, StageCost]]:
    """Return every stage with a key that is equal for stages that rows share."""
    plain, groups, keyed = asdict(options), list[str](), []
    for cost in estimate(options):
        kind = cost.stage.split("-")[0]
        is_first_score = kind == "final" and iteration_of(cost.stage) == 0
        before = [*STAGE_GROUPS["demonstrations"], *STAGE_GROUPS["sft"]] if is_first_score else groups
        needed = sorted({*before, *STAGE_GROUPS[kind]})
        keyed.append((content_hash([cost.stage, {name: _option(plain, name) for name in needed}]), cost))
        if kind not in SIDE_STAGES:
            groups = needed
    return keyed


def _option(plain: Mapping[str, Any], name: str) -> Any:
    """Return the option or group of a dotted name."""
    for part in name.split("."):
        plain = plain[part]
    return plain
