"""What an expert knows of an object's shape: points on its collision geoms, carried along with its body."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import mujoco
import numpy as np

# P points of an object.

GRID = np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=3)))
"""Corners, edge, face and body centres of the cube from -1 to 1."""
FINE_M = 0.008


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
    """Points on the collision geoms of a body and its children, each carried along with the part that moves as one."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, body: int) -> None:
        self.body = body
        is_solid = (model.geom_contype | model.geom_conaffinity) != 0
        self.geoms = np.flatnonzero(np.isin(model.geom_bodyid, subtree(model, body)) & is_solid)
        if not len(self.geoms):
            raise ValueError(f"body {model.body(body).name!r} has no collision geom; experts can only handle objects with one")
        self._model = model
        carriers = np.array([_carrier(model, int(model.geom_bodyid[geom]), body) for geom in self.geoms])
        self._carried = [(int(carrier), self.geoms[carriers == carrier]) for carrier in sorted(set(carriers))]
        self._local = self._grids(data, spacing_m=None)
        self._fine: list[tuple[int, np.ndarray]] = []

    def points(self, data: mujoco.MjData) -> np.ndarray:
        """Return the points in the world, [P, 3]."""
        return _in_world(self._local, data)

    def fine_points(self, data: mujoco.MjData) -> np.ndarray:
        """Return points at most `FINE_M` apart on geoms that are boxes, [P, 3]."""
        self._fine = self._fine or self._grids(data, spacing_m=FINE_M)
        return _in_world(self._fine, data)

    def _grids(self, data: mujoco.MjData, *, spacing_m: float | None) -> list[tuple[int, np.ndarray]]:
        """Return points in the frames of the bodies that carry them."""
        grids = []
        for body, geoms in self._carried:
            points = np.concatenate([_geom_points(self._model, data, int(geom), spacing_m=spacing_m) for geom in geoms])
            grids.append((body, (points - data.xpos[body]) @ data.xmat[body].reshape(3, 3)))
        return grids

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


def _carrier(model: mujoco.MjModel, body: int, root: int) -> int:
    """Return the nearest body from here to the root that has a joint of its own; the root without one."""
    while body != root and model.body_jntnum[body] == 0:
        body = int(model.body_parentid[body])
    return body


def _in_world(grids: list[tuple[int, np.ndarray]], data: mujoco.MjData) -> np.ndarray:
    placed = [local @ data.xmat[body].reshape(3, 3).T + data.xpos[body] for body, local in grids]
    return placed[0] if len(placed) == 1 else np.concatenate(placed)


def _geom_points(model: mujoco.MjModel, data: mujoco.MjData, geom: int, *, spacing_m: float | None = None) -> np.ndarray:
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
    elif spacing_m is None:
        local = GRID * size
    else:
        local = _box_grid(size, spacing_m)
    return local @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom]


def _box_grid(half_size: np.ndarray, spacing_m: float) -> np.ndarray:
    axes = [np.linspace(-half, half, max(2, int(np.ceil(2 * half / spacing_m)) + 1)) for half in half_size]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
