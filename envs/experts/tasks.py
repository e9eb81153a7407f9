"""The expert of whole tasks: reads the goal's predicates, orders them, and brings one after the other about by a skill."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from envs.experts.dragging import DraggingExpert, is_dragged
from envs.experts.fixtures import FixtureEnv, FixtureExpert, is_door
from envs.experts.pick_place import PickPlaceExpert

Predicate = tuple[str, ...]
PLACES = ("on", "in")
ORDER = ("turnon", "turnoff", "open", *PLACES, "close")
"""What is brought about first: doors are closed when everything is inside."""


class TaskEnv(FixtureEnv, Protocol):
    """What this expert reads of an environment besides."""

    def holds(self, predicate: Predicate) -> bool:
        """Return whether a predicate is true now."""
        ...


class Skill(Protocol):
    """Brings one predicate about."""

    @property
    def phase(self) -> str: ...

    @property
    def is_apart(self) -> bool:
        """Whether the hand has let go, so that something else can follow."""
        ...

    def start(self, *, seed: int, is_clean: bool) -> None: ...

    def act(self) -> np.ndarray: ...


class TaskExpert:
    """Brings about the first predicate of the goal that does not hold, until all do.

    An object goes into a drawer only after the drawer was opened. Unless clean, every episode has a style of its own.
    """

    def __init__(self, env: TaskEnv, **style: Any) -> None:
        """`style` are the options of `PickPlaceExpert` for it; raises ValueError for a predicate that no skill serves."""
        unknown = [" ".join(step) for step in env.goal if step[0] not in ORDER]
        if unknown:
            raise ValueError(f"no skill brings about {', '.join(unknown)}; there are skills for {', '.join(ORDER)}")
        self._env, self._style = env, style
        self._steps = _ordered(env)

    def start(self, *, seed: int, is_clean: bool) -> None:
        """Plan from the environment's current state; the style comes from the seed unless clean.

        Raises ValueError where no skill serves a thing of the goal.
        """
        for relation, *names in self._steps:
            if relation == "in" and _opens_to_the_front(self._env, names[1]):
                raise ValueError(
                    f"no skill puts {names[0]} into {names[1]}: it opens to the front, and objects are let down from above"
                )
        self._seed, self._is_clean = seed, is_clean
        self._skills = {step: self._skill_for(step) for step in self._steps}
        self._begin(self._wanted(default=self._steps[-1]))

    @property
    def phase(self) -> str:
        return self._skills[self._step].phase

    @property
    def subject(self) -> str:
        """Name in `env.object_bodies` of the object that it moves, or of the fixture or part that it handles."""
        return self._step[1]

    @property
    def destination(self) -> str:
        """Name in `env.object_bodies` of what it brings the object to, or of a site; '' while it handles a fixture."""
        skill = self._skills[self._step]
        return skill.destination if isinstance(skill, PickPlaceExpert) else "".join(self._step[2:])

    @property
    def relation(self) -> str:
        """The predicate that it is bringing about: 'in', 'on', 'open', 'close', 'turnon' or 'turnoff'."""
        return self._step[0]

    def act(self) -> np.ndarray:
        """Return the next action, float32 [7] within [-1, 1]."""
        if self._skills[self._step].is_apart:
            wanted = self._wanted(default=self._step)
            if wanted != self._step:
                self._begin(wanted)
        return self._skills[self._step].act()

    def _begin(self, step: Predicate) -> None:
        self._step = step
        self._skills[step].start(seed=self._seed, is_clean=self._is_clean)

    def _wanted(self, *, default: Predicate) -> Predicate:
        """Return the first step that is still to be done; what is only a means is done while its end is not."""
        missing = [step for step in self._steps if not self._env.holds(step)]
        for step in missing:
            if step in self._env.goal or any(end[0] == "in" and end[2] == step[1] for end in missing):
                return step
        return default

    def _skill_for(self, step: Predicate) -> Skill:
        if step[0] not in PLACES:
            return FixtureExpert(self._env, goal=step, **self._pace)
        if is_dragged(self._env, step):
            return DraggingExpert(self._env, goal=step, **self._pace)
        together = [other for other in self._steps if other[0] == step[0] and other[-1] == step[-1]]
        return PickPlaceExpert(self._env, goal=step, share=(together.index(step), len(together)), **self._style)

    @property
    def _pace(self) -> dict[str, Any]:
        return {"pace": self._style["pace"]} if "pace" in self._style else {}


def _opens_to_the_front(env: TaskEnv, region: str) -> bool:
    """Return whether a region lies behind a door on hinges, as a microwave's does."""
    things = [thing for thing, words in env.joint_conditions.items() if region.startswith(f"{thing}_") and "close" in words]
    return any(is_door(env, env.joint_conditions[thing]["close"].joints[0]) for thing in things)


def _ordered(env: TaskEnv) -> list[Predicate]:
    """Return the goal's predicates in the order to bring them about, after what must be opened for them."""
    means = {("open", step[2]) for step in env.goal if step[0] == "in" and "open" in env.joint_conditions.get(step[2], {})}
    return sorted([*(means - set(env.goal)), *env.goal], key=lambda step: ORDER.index(step[0]))
