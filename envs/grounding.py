"""What is true of a scene, as plain data: where every named object is and is seen, what the gripper holds, what lies where."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import mujoco
import numpy as np

from envs.experts.shapes import subtree
from envs.rendering import Renderer

# Shapes: Y and X image rows and columns.

MIN_PIXELS = 256
"""Boxes are read off images of at least this side, so that they are finer than the pixels a policy sees."""

Relation = tuple[str, str, str]
"""('in' | 'on', object, object)."""


class GroundedScene(Protocol):
    """What grounding reads of an environment."""

    object_bodies: Mapping[str, str]
    """Object name to the name of its body."""
    object_names: Mapping[str, str]
    """Object name to what a person would call it; several objects may share a name."""
    object_groups: Mapping[str, str]
    """Object name to the plural of what it is one of, such as 'cubes'; empty for none."""
    finger_joints: tuple[str, str]
    places: Sequence[tuple[str, str]]
    """('in' | 'on', object) of everything that objects can lie in or on, as far as the task defines it."""

    @property
    def model(self) -> mujoco.MjModel: ...

    @property
    def data(self) -> mujoco.MjData: ...


class Grounding:
    """Reads the truth of one scene, with a renderer of its own; keep one per model and `close` it."""

    def __init__(
        self,
        scene: GroundedScene,
        *,
        cameras: Mapping[str, str],
        image_size: int,
        hidden_geom_groups: Collection[int],
        relations: Callable[[], Sequence[Relation]],
        is_mirrored: bool = False,
    ) -> None:
        """Open a renderer for cameras {public name: name in the model} that see what a policy's images show.

        `relations` tells which objects lie in or on which of the scene's places now. `is_mirrored`: the policy's images have
        left and right swapped, and so have the boxes.
        """
        model = scene.model
        self._scene, self._relations, self._is_mirrored = scene, relations, is_mirrored
        self._keys = tuple(scene.object_bodies)
        bodies = [model.body(scene.object_bodies[key]).id for key in self._keys]
        self._bodies = np.array(bodies)
        self._owner = np.full(model.ngeom, -1)
        """Position in `_keys` of the object that a geom belongs to, -1 for none."""
        for index, body in enumerate(bodies):
            self._owner[np.isin(model.geom_bodyid, subtree(model, body))] = index
        fingers = [int(model.jnt_bodyid[model.joint(name).id]) for name in scene.finger_joints]
        self._finger_geoms = [np.isin(model.geom_bodyid, subtree(model, finger)) for finger in fingers]
        self._is_robot = model.body_rootid[model.geom_bodyid] == model.body_rootid[fingers[0]]
        side = image_size * -(-MIN_PIXELS // image_size)
        self._renderer = Renderer(
            model, cameras=cameras, height=side, width=side, shadow_size=0, hidden_geom_groups=hidden_geom_groups
        )

    def read(self) -> dict[str, Any]:
        """Return what holds for the scene's data now: plain data, see `opentau.protocols.GroundedEnv`."""
        held, touched = self._in_hand()
        images = self._renderer.segment(self._scene.data)
        return {
            "objects": {key: self._object(index, key) for index, key in enumerate(self._keys)},
            "cameras": {camera: self._seen(geoms) for camera, geoms in images.items()},
            "held": held,
            "touched": touched,
            "places": [list(place) for place in self._scene.places],
            "relations": [list(relation) for relation in self._relations()],
        }

    def close(self) -> None:
        self._renderer.close()

    def _object(self, index: int, key: str) -> dict[str, Any]:
        body = self._bodies[index]
        return {
            "name": self._scene.object_names[key],
            "group": self._scene.object_groups[key],
            "position": self._scene.data.xpos[body].tolist(),
            "is_movable": bool(self._scene.model.body_jntnum[body] > 0),
        }

    def _seen(self, geoms_YX: np.ndarray) -> dict[str, dict[str, Any]]:
        """Return box and share of the pixels of every object that shows at least one."""
        owner_YX = np.where(geoms_YX >= 0, self._owner[geoms_YX], -1)
        if self._is_mirrored:
            owner_YX = owner_YX[:, ::-1]
        height, width = owner_YX.shape
        seen = {}
        for index, key in enumerate(self._keys):
            is_object_YX = owner_YX == index
            rows, columns = np.flatnonzero(is_object_YX.any(axis=1)), np.flatnonzero(is_object_YX.any(axis=0))
            if len(rows):
                box = [rows[0] / height, columns[0] / width, (rows[-1] + 1) / height, (columns[-1] + 1) / width]
                seen[key] = {"box": [float(edge) for edge in box], "share": float(is_object_YX.mean())}
        return seen

    def _in_hand(self) -> tuple[str | None, list[str]]:
        """Return the object that is held, and all that a finger touches.

        Held is what both fingers touch and nothing but the robot does: an object that is still supported is only touched.
        """
        pairs = self._scene.data.contact.geom[: self._scene.data.ncon].reshape(-1, 2)
        pairs = np.concatenate([pairs, pairs[:, ::-1]])
        owner, other = self._owner[pairs[:, 0]], pairs[:, 1]
        is_supporting = ~self._is_robot[other] & (self._owner[other] != owner)
        held, touched = None, []
        for index, key in enumerate(self._keys):
            touching = other[owner == index]
            num_fingers = sum(bool(geoms[touching].any()) for geoms in self._finger_geoms)
            is_free = not is_supporting[owner == index].any() and self._scene.model.body_jntnum[self._bodies[index]] > 0
            if num_fingers:
                touched.append(key)
            if num_fingers == 2 and is_free:
                held = key
        return held, touched
