"""What an expert knows of an object's shape: points on its collision geoms, carried along with its body."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import mujoco
import numpy as np

# P points of an object.

GRID = np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=3)))
"""Corners, edge, face and body centres of the cube from -1 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """An axis-aligned box in the world, metres."""

    low: np.ndarray
    high: np.ndarray

    @property
    def centre(self) -> np.ndarray:
        return (self.low + self.high) / 2

    @property
    def height(self) -> float:
        return float(self.high[2] - self.low[2])

    def distance_xy(self, points: np.ndarray) -> np.ndarray:
        """Return the horizontal distance of points [..., 2 or more] to the box's footprint."""
        outside = np.maximum(self.low[:2] - points[..., :2], points[..., :2] - self.high[:2])
        return np.linalg.norm(np.maximum(outside, 0.0), axis=-1)


class Shape:
    """Points on the collision geoms of a body and its children."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, body: int) -> None:
        self.body = body
        is_solid = (model.geom_contype | model.geom_conaffinity) != 0
        self.geoms = np.flatnonzero(np.isin(model.geom_bodyid, subtree(model, body)) & is_solid)
        if not len(self.geoms):
            raise ValueError(f"body {model.body(body).name!r} has no collision geom; experts can only handle objects with one")
        points = np.concatenate([_geom_points(model, data, int(geom)) for geom in self.geoms])
        self._local = (points - data.xpos[body]) @ data.xmat[body].reshape(3, 3)

    def points(self, data: mujoco.MjData) -> np.ndarray:
        """Return the points in the world, [P, 3]."""
        return self._local @ data.xmat[self.body].reshape(3, 3).T + data.xpos[self.body]

    def box(self, data: mujoco.MjData) -> Box:
        """Return the box around the points."""
        points = self.points(data)
        return Box(low=points.min(axis=0), high=points.max(axis=0))


def subtree(model: mujoco.MjModel, root: int) -> list[int]:
    """Return the ids of a body and everything attached below it."""
    bodies = [root]
    for body in range(root + 1, model.nbody):
        if model.body_parentid[body] in bodies:
            bodies.append(body)
    return bodies


def _geom_points(model: mujoco.MjModel, data: mujoco.MjData, geom: int) -> np.ndarray:
    """Points on a geom in the world: the vertices of a mesh, a grid over the bounding box of a primitive."""
    kind, size = model.geom_type[geom], model.geom_size[geom]
    if kind == mujoco.mjtGeom.mjGEOM_MESH:
        mesh = model.geom_dataid[geom]
        first = model.mesh_vertadr[mesh]
        local = model.mesh_vert[first : first + model.mesh_vertnum[mesh]]
    elif kind == mujoco.mjtGeom.mjGEOM_SPHERE:
        local = GRID * size[0]
    elif kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
        local = GRID * size[[0, 0, 1]]
    elif kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
        local = GRID * (size[[0, 0, 1]] + [0.0, 0.0, size[0]])
    else:
        local = GRID * size
    return local @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom]
