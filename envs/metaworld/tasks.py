"""Meta-World's tasks by name, seeded as gymnasium's environments are."""

from __future__ import annotations

from typing import Any

import gymnasium


class SeededTask(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A task whose `reset(seed=…)` draws objects and goal; Meta-World's own ignores the seed and repeats one placement."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Draw from the task's whole range of placements, not from the fifty of a benchmark."""
        task: Any = self.env.unwrapped
        if seed is not None:
            task.seed(seed)
        # Meta-World's benchmarks set these two in the same way; there is no public switch.
        task._freeze_rand_vec, task.seeded_rand_vec = False, True
        return self.env.reset(seed=seed, options=options)


def make_task(env_name: str) -> gymnasium.Env[Any, Any]:
    """Return a task such as 'reach-v3', with its goal in the observation; ValueError for a name that there is not."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE as KINDS  # Meta-World is in an interpreter of its own

    kind = KINDS.get(f"{env_name}-goal-observable")
    if kind is None:
        raise ValueError(
            f"Meta-World has no task {env_name!r}; it has {', '.join(name.removesuffix('-goal-observable') for name in KINDS)}"
        )
    return SeededTask(kind(seed=0))
