"""What an expert knows of its task: the object to move, where it goes, and what stands in the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import mujoco
import numpy as np

from envs.experts.grasps import MAX_OPENING_M, WALL_M, Grasp, free_spot, narrowest_m, plan_grasp, tilting_shift
from envs.experts.parts import plan_part_grasp
from envs.experts.shapes import Box, Shape

CLEARANCE_M = 0.05
"""Between whatever moves and what it passes over."""
PASSING_M = 0.12
"""Objects closer to a path than this are passed over, not beside."""
WAYS_OUT_M = np.arange(0.02, 0.2, 0.01)
ROOM_M, MAX_WAY_IN_A_DRAWER_M = 0.004, 0.02
"""Between an object that rises out of a drawer and what is above the drawer; how far it is moved in the drawer for that."""
FINGER_ROOM_M = 0.02
"""Around an object that is let down between walls."""
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

    def __init__(self, env: PrivilegedEnv, goal: Sequence[tuple[str, ...]], *, share: tuple[int, int] = (0, 1)) -> None:
        """`share`: which of how many objects with the same destination this is.

        Raises ValueError for a goal that is not one object in or on something.
        """
        model, data = env.model, env.data
        if len(goal) != 1 or len(goal[0]) != 3 or goal[0][0] not in ("in", "on"):
            raise ValueError(f"the expert moves one object 'in' or 'on' something; the goal is {goal}")
        ((self.relation, name, where),) = goal
        shapes = {key: Shape(model, data, model.body(body).id) for key, body in env.object_bodies.items()}
        self._data, self._object_names = data, frozenset(shapes)
        self.object = shapes.pop(name)
        self._dof = int(model.body_dofadr[self.object.body])
        self._model, self._share = model, share
        self._base = int(model.body_rootid[model.site(env.gripper_site).bodyid[0]])
        self._site = None if where in shapes else model.site(where).id
        self._support = (
            shapes[where] if self._site is None else Shape(model, data, _mover(model, model.site_bodyid[self._site]))
        )
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
    def is_goal_a_part_of_the_table(self) -> bool:
        """Whether the goal is a marked part of what is no object."""
        return self._is_on_a_region and self.support_name not in self._object_names

    @property
    def release_height_m(self) -> float:
        """Where the object's bottom is brought before it is let go."""
        if self._is_on_a_region:
            return float(self.region.low[2])
        support = self._support.box(self._data)
        return float(support.high[2] - RELEASE_BELOW_RIM_M if self.is_goal_a_container else support.low[2])

    @property
    def _is_on_a_region(self) -> bool:
        """Whether the goal is on a marked part of a surface."""
        return self._site is not None and not self.is_goal_a_container

    @property
    def region(self) -> Box:
        """Around the site that the goal names."""
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
            part = plan_part_grasp(self.object, self.obstacles, self._data, base=self._data.xpos[self._base])
            if part is not None:
                return part
        return plan_grasp(self.object, self.obstacles, self._data)

    def place_spot(self) -> np.ndarray:
        """Return where the object's centre goes, [2]."""
        if self._is_on_a_region:
            return free_spot(self._own_strip(), [shape.box(self._data) for shape in self._others])
        if self._is_goal_a_drawer:
            return self._spot_clear_above()
        support = self._support.box(self._data)
        if not self.is_goal_a_container:
            return free_spot(support, [shape.box(self._data) for shape in self._others])
        centre = support.centre if self._site is None else self._data.site_xpos[self._site]
        return centre[:2] + tilting_shift(self.object.points(self._data), support)

    @property
    def _is_goal_a_drawer(self) -> bool:
        return (
            self.is_goal_a_container and self._model.body_jntnum[self._support.body] > 0 and not self._is_loose(self._support)
        )

    def _is_loose(self, shape: Shape) -> bool:
        joint = self._model.body_jntadr[shape.body]
        return bool(self._model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE)

    def _own_strip(self) -> Box:
        """Return the part of the goal's region that is this object's, where others go there as well; side by side."""
        region, (index, count) = self.region, self._share
        if count == 1:
            return region
        box = self.box
        axis = int(np.argmin((box.high - box.low)[:2]))
        width = (region.high - region.low)[axis] / count
        low, high = region.low.copy(), region.high.copy()
        low[axis] = region.low[axis] + index * width
        high[axis] = low[axis] + width
        return Box(low=low, high=high)

    def _spot_clear_above(self) -> np.ndarray:
        """Return the point [2] of a drawer nearest to its middle from which the way up is clear of the cabinet."""
        region, support, half = self.region, self._support.box(self._data), (self.box.high - self.box.low)[:2] / 2
        room = np.minimum(
            (region.high - region.low)[:2] / 2, np.maximum((support.high - support.low)[:2] / 2 - WALL_M - half, 0.0)
        )
        steps = np.linspace(-1.0, 1.0, 9)
        spots = region.centre[:2] + np.array([(x, y) for x in steps for y in steps]) * room
        spots = spots[np.argsort(np.linalg.norm(spots - region.centre[:2], axis=1), kind="stable")]
        above = np.concatenate([shape.fine_points(self._data) for shape in self._others])
        above = above[above[:, 2] > support.high[2]]
        blocked = (np.abs(above[None, :, :2] - spots[:, None]) < half + FINGER_ROOM_M).all(axis=-1).sum(axis=1)
        return spots[int(np.argmin(blocked))]

    def way_out(self, grip: np.ndarray, height_m: float) -> np.ndarray | None:
        """Return the nearest point [2] from which the held object and the hand can rise to a height; None where they can here.

        `grip` is where the hand holds it, [3].
        """
        outwards = self._drawer_direction()
        if outwards is not None:
            return self._way_out_of_a_drawer(grip, outwards)
        box = self.box
        above = np.concatenate([shape.fine_points(self._data) for shape in self.obstacles])
        above = above[(above[:, 2] > box.high[2]) & (above[:, 2] < height_m)][:, :2]
        low = np.minimum(box.low[:2], grip[:2] - FINGER_ROOM_M) - FINGER_ROOM_M
        high = np.maximum(box.high[:2], grip[:2] + FINGER_ROOM_M) + FINGER_ROOM_M

        def is_clear(shift: np.ndarray) -> bool:
            return not ((above > low + shift) & (above < high + shift)).all(axis=1).any()

        if is_clear(np.zeros(2)):
            return None
        turns = np.linspace(0.0, 2 * np.pi, 16, endpoint=False)
        shifts = [step * np.array([np.cos(turn), np.sin(turn)]) for step in WAYS_OUT_M for turn in turns]
        clear = next((shift for shift in shifts if is_clear(shift)), np.zeros(2))
        return grip[:2] + clear

    def _drawer_direction(self) -> np.ndarray | None:
        """Return the unit vector [3] in which the open drawer that the object is in slides out; None where it is in none."""
        box, model, data = self.box, self._model, self._data
        obstacles = np.concatenate([shape.geoms for shape in self.obstacles])
        for joint in np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_SLIDE):
            opening = float(data.qpos[model.jnt_qposadr[joint]])
            drawer = int(model.jnt_bodyid[joint])
            if not opening or not np.isin(np.flatnonzero(model.geom_bodyid == drawer), obstacles).any():
                continue
            around = Shape(model, data, drawer).box(data)
            is_inside = (around.low[:2] < box.centre[:2]).all() and (box.centre[:2] < around.high[:2]).all()
            if is_inside and around.low[2] < box.low[2] < around.high[2]:
                return np.sign(opening) * data.xaxis[joint]
        return None

    def _way_out_of_a_drawer(self, grip: np.ndarray, outwards: np.ndarray) -> np.ndarray | None:
        """Return the point [2] a little further out from which the object rises clear of what the drawer slides into.

        The hand came down where it is, so that only the object can be under something.
        """
        aside = np.array([-outwards[1], outwards[0], 0.0])
        axes = np.stack([outwards, aside])
        object_points, top = self.object.fine_points(self._data), self.box.high[2]
        low, high = (object_points @ axes.T).min(axis=0) - ROOM_M, (object_points @ axes.T).max(axis=0) + ROOM_M
        above = np.concatenate([shape.fine_points(self._data) for shape in self.obstacles])
        above = above[above[:, 2] > top] @ axes.T
        is_under = ((above > low) & (above < high)).all(axis=1) & (above[:, 0] < (low[0] + high[0]) / 2)
        if not is_under.any():
            return None
        shift = min(float(above[is_under, 0].max() - low[0]), MAX_WAY_IN_A_DRAWER_M)
        return grip[:2] + shift * outwards[:2]

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
