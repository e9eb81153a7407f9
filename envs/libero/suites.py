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

OLDEST_SUITE = "libero_object"
"""What environments of this suite are called when no option says otherwise was fixed before the other suites came."""


def require_task(suite: str, task_id: int) -> Suite:
    """Return the suite; raises ValueError with near matches when suite or task does not exist."""
    if suite not in SUITES:
        close = difflib.get_close_matches(suite, SUITES, n=2, cutoff=0.5) or sorted(SUITES)
        raise ValueError(f"there is no LIBERO suite {suite!r}; did you mean {' or '.join(close)}?")
    found = SUITES[suite]
    if not 0 <= task_id < found.num_tasks:
        raise ValueError(f"{suite} has the tasks 0 to {found.num_tasks - 1}, not {task_id}")
    return found
