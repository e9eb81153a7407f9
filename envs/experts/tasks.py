"""The expert of whole tasks: reads the goal's predicates, orders them, and brings one after the other about by a skill."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from envs.experts.fixtures import FixtureEnv, FixtureExpert
from envs.experts.pick_place import PickPlaceExpert

Predicate = tuple[str, ...]
ORDER = ("turnon", "turnoff", "open", "on", "in", "close")
"""What is brought about first: doors are closed when everything is inside."""


class TaskEnv(FixtureEnv, Protocol):
    """What this expert reads of an environment besides."""

    def holds(self, predicate: Predicate) -> bool:
        """Return whether a predicate is true now."""
        ...


class TaskExpert:
    """Brings about the first predicate of the goal that does not hold, until all do.

    An object goes into a drawer only after the drawer was opened. Unless clean, every episode has a style of its own, that
    of its pick and place skill.
    """

    def __init__(
        self,
        env: TaskEnv,
        *,
        pace: tuple[float, float] = (0.5, 1.0),
        pause_probability: float = 0.1,
        sloppy_grasp_probability: float = 0.2,
    ) -> None:
        """See `PickPlaceExpert` for the style's options; raises ValueError for a goal with a predicate that no skill serves."""
        self._env, self._pace = env, pace
        style = {"pause_probability": pause_probability, "sloppy_grasp_probability": sloppy_grasp_probability}
        self._steps = ordered(env)
        self._placing = {
            step: PickPlaceExpert(env, goal=step, pace=pace, **style) for step in self._steps if step[0] in ("in", "on")
        }

    def start(self, *, seed: int, is_clean: bool) -> None:
        """Plan from the environment's current state; the style comes from the seed unless clean."""
        rng = np.random.default_rng(seed)
        pace = 1.0 if is_clean else float(rng.uniform(*self._pace))
        self._fixtures = {
            step: FixtureExpert(self._env, goal=step, pace=pace) for step in self._steps if step not in self._placing
        }
        self._seed, self._is_clean = seed, is_clean
        self._step: Predicate | None = None
        self._begin(self._next())

    @property
    def phase(self) -> str:
        return self._skill.phase

    @property
    def subject(self) -> str:
        """Name in `env.object_bodies` of the object that it moves, or of the fixture or part that it handles."""
        return self._placing[self._step].subject if self._step in self._placing else self._step[1]

    @property
    def destination(self) -> str:
        """What it brings the object to; '' while it handles a fixture."""
        return self._placing[self._step].destination if self._step in self._placing else ""

    @property
    def relation(self) -> str:
        """The predicate that it is bringing about: 'in', 'on', 'open', 'close', 'turnon' or 'turnoff'."""
        return self._step[0]

    def act(self) -> np.ndarray:
        """Return the next action, float32 [7] within [-1, 1]."""
        wanted = self._next()
        if wanted != self._step and self._is_free():
            self._begin(wanted)
        return self._skill.act()

    def _begin(self, step: Predicate) -> None:
        self._step = step
        if step in self._placing:
            self._skill = self._placing[step]
            self._skill.start(seed=self._seed, is_clean=self._is_clean)
        else:
            self._skill = self._fixtures[step]
            self._skill.start()

    def _is_free(self) -> bool:
        """Whether the hand holds nothing that belongs to the present step."""
        return self._skill.is_apart

    def _next(self) -> Predicate:
        """Return the first step that is still to be done; the last one where all are."""
        for number, step in enumerate(self._steps):
            if self._env.holds(step):
                continue
            if step in self._env_goal or any(not self._env.holds(later) for later in self._steps[number + 1 :] if later[-1] == step[1]):
                return step
        return self._step or self._steps[-1]

    @property
    def _env_goal(self) -> set[Predicate]:
        return set(self._env.goal)


def ordered(env: TaskEnv) -> list[Predicate]:
    """Return the goal's predicates in the order to bring them about, and what must be opened before."""
    steps = sorted(env.goal, key=lambda step: ORDER.index(step[0]))
    opened = {("open", step[2]) for step in steps if step[0] == "in" and "open" in env.joint_conditions.get(step[2], {})}
    return sorted({*steps, *opened}, key=lambda step: (ORDER.index(step[0]), env.goal.index(step) if step in env.goal else 0))
