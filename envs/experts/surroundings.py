"""What an expert knows of its task: the object to move, where it goes, and what stands in the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import mujoco
import numpy as np

from envs.experts.grasps import MAX_OPENING_M, Grasp, free_spot, narrowest_m, plan_grasp, tilting_shift
from envs.experts.parts import plan_part_grasp
from envs.experts.shapes import Box, Shape

CLEARANCE_M = 0.05
"""Between whatever moves and what it passes over."""
PASSING_M = 0.12
"""Objects closer to a path than this are passed over, not beside."""
RELEASE_BELOW_RIM_M = 0.01
"""How deep an object's bottom is brought into a container before it is let go."""


class PrivilegedEnv(Protocol):
    """What an expert reads of an environment."""

    goal: Sequence[tuple[str, ...]]
    """Predicates; experts understand one ("in" | "on", object, site or object)."""
    object_bodies: Mapping[str, str]
    """Object name to the name of its body."""
    gripper_site: str
    finger_joints: tuple[str, str]

    @property
    def model(self) -> mujoco.MjModel: ...

    @property
    def data(self) -> mujoco.MjData: ...


class Surroundings:
    """The shapes of one episode, looked up once and read from the simulator's data whenever asked."""

    def __init__(self, env: PrivilegedEnv, goal: Sequence[tuple[str, ...]]) -> None:
        """Raise ValueError for a goal that is not one object in or on something."""
        model, data = env.model, env.data
        if len(goal) != 1 or len(goal[0]) != 3 or goal[0][0] not in ("in", "on"):
            raise ValueError(f"the expert moves one object 'in' or 'on' something; the goal is {goal}")
        ((self.relation, name, where),) = goal
        shapes = {key: Shape(model, data, model.body(body).id) for key, body in env.object_bodies.items()}
        self._data = data
        self.object = shapes.pop(name)
        self._dof = int(model.body_dofadr[self.object.body])
        self._model = model
        self._site = None if where in shapes else model.site(where).id
        self._support = shapes[where] if self._site is None else Shape(model, data, _mover(model, model.site_bodyid[self._site]))
        self.object_name = name
        self.support_name = next((key for key, shape in shapes.items() if shape.body == self._support.body), where)
        """Of `env.object_bodies`, also where the goal names a site of it; the site itself where that belongs to no object."""
        self._others = [shape for key, shape in shapes.items() if shape.body != self._support.body]

    @property
    def box(self) -> Box:
        """Around the object."""
        return self.object.box(self._data)

    @property
    def position(self) -> np.ndarray:
        """Of the object's body, m, [3]."""
        return self._data.xpos[self.object.body].copy()

    @property
    def obstacles(self) -> list[Shape]:
        return [*self._others, self._support]

    @property
    def is_goal_a_container(self) -> bool:
        return self.relation == "in"

    @property
    def release_height_m(self) -> float:
        """Where the object's bottom is brought before it is let go."""
        if self._is_on_a_region:
            return float(self._region.low[2])
        support = self._support.box(self._data)
        return float(support.high[2] - RELEASE_BELOW_RIM_M if self.is_goal_a_container else support.low[2])

    @property
    def _is_on_a_region(self) -> bool:
        """Whether the goal is on a marked part of a surface."""
        return self._site is not None and not self.is_goal_a_container

    @property
    def _region(self) -> Box:
        """Around the site of the goal."""
        reach = np.abs(self._data.site_xmat[self._site].reshape(3, 3) @ self._model.site_size[self._site])
        centre = self._data.site_xpos[self._site]
        return Box(low=centre - reach, high=centre + reach)

    def is_resting(self, *, speed_m_s: float) -> bool:
        """Return whether the object touches something and hardly moves."""
        is_touching = np.isin(self._data.contact.geom, self.object.geoms).any()
        return bool(is_touching and np.linalg.norm(self._data.qvel[self._dof : self._dof + 3]) < speed_m_s)

    def is_on_support(self) -> bool:
        pairs = self._data.contact.geom
        return bool((np.isin(pairs, self.object.geoms).any(axis=1) & np.isin(pairs, self._support.geoms).any(axis=1)).any())

    def plan_grasp(self) -> Grasp:
        """Choose a grasp of the whole object, or of a part of one that is too wide for the hand."""
        if narrowest_m(self.object.points(self._data)) > MAX_OPENING_M:
            part = plan_part_grasp(self.object, self.obstacles, self._data)
            if part is not None:
                return part
        return plan_grasp(self.object, self.obstacles, self._data)

    def place_spot(self) -> np.ndarray:
        """Return where the object's centre goes, [2]."""
        if self._is_on_a_region:
            return free_spot(self._region, [shape.box(self._data) for shape in self._others])
        support = self._support.box(self._data)
        if not self.is_goal_a_container:
            return free_spot(support, [shape.box(self._data) for shape in self._others])
        centre = support.centre if self._site is None else self._data.site_xpos[self._site]
        return centre[:2] + tilting_shift(self.object.points(self._data), support)

    def passing_height_m(self, start: np.ndarray, end: np.ndarray) -> float:
        """Return the height at which something passes over everything but the object between two points [2 or more]."""
        path = np.linspace(start[:2], end[:2], 12)
        boxes = [shape.box(self._data) for shape in self.obstacles]
        return max([0.0, *(float(box.high[2]) for box in boxes if box.distance_xy(path).min() < PASSING_M)]) + CLEARANCE_M


def _mover(model: mujoco.MjModel, body: int) -> int:
    """Return the body with a joint that carries a body; the one directly in the world where none moves."""
    while model.body_jntnum[body] == 0 and model.body_parentid[body] != 0:
        body = int(model.body_parentid[body])
    return int(body)
