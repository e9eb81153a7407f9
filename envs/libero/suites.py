"""Which LIBERO suites are offered, and how long their episodes may be."""

from __future__ import annotations

import difflib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """What is known of a suite without opening its files."""

    num_tasks: int
    max_steps: int
    """Control steps an episode may take; the limit that published evaluations use (openpi, examples/libero)."""
    scene_version: int = 2
    """How its scenes are built, part of their key in the cache; raise it whenever the builder makes something else of the
    same files. Version 1 takes shading and texture of small meshes from the nearest corners; recorded results have it."""


SUITES = {
    "libero_spatial": Suite(num_tasks=10, max_steps=220),
    "libero_object": Suite(num_tasks=10, max_steps=280, scene_version=1),
    "libero_goal": Suite(num_tasks=10, max_steps=300),
    "libero_10": Suite(num_tasks=10, max_steps=520),
    "libero_90": Suite(num_tasks=90, max_steps=400),
}

VARIANTS = {"objects": "object", "positions": "swap", "instructions": "lan", "tasks": "task"}
"""LIBERO-PRO's perturbations (Zhou et al. 2025, arXiv:2510.03827) to the endings of their suites: objects of other colours
and sizes, two things' places exchanged, the instruction in other words, another task in the same scene."""
PRO_SUITES = {
    f"{suite}_{ending}": known for suite, known in SUITES.items() if suite != "libero_90" for ending in VARIANTS.values()
}
"""LIBERO-PRO's own files for four suites; none for libero_90."""
ALL_SUITES = {**SUITES, **PRO_SUITES}

OLDEST_SUITE = "libero_object"
"""What environments of this suite are called when no option says otherwise was fixed before the other suites came."""


def require_task(suite: str, task_id: int) -> Suite:
    """Return the suite; raises ValueError with near matches when suite or task does not exist."""
    if suite not in ALL_SUITES:
        close = difflib.get_close_matches(suite, SUITES, n=2, cutoff=0.5) or sorted(SUITES)
        raise ValueError(f"there is no LIBERO suite {suite!r}; did you mean {' or '.join(close)}?")
    found = ALL_SUITES[suite]
    if not 0 <= task_id < found.num_tasks:
        raise ValueError(f"{suite} has the tasks 0 to {found.num_tasks - 1}, not {task_id}")
    return found


def variant_suite(suite: str, perturbation: str) -> str:
    """Return LIBERO-PRO's suite for a suite and one of `VARIANTS`; raises ValueError where LIBERO-PRO has none."""
    name = f"{suite}_{VARIANTS[perturbation]}"
    if name not in PRO_SUITES:
        raise ValueError(f"LIBERO-PRO perturbs libero_spatial, libero_object, libero_goal and libero_10, not {suite}")
    return name
