"""How a scene may look otherwise than in training: camera, light, surfaces, noise; drawn anew for every episode."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping

import mujoco
import numpy as np

SHIFT_M, TURN_RAD = 0.03, np.deg2rad(5.0)
"""How far a camera is moved along each axis, and turned about a random one, at most."""
BRIGHTNESS, LIGHT_SHIFT_M = (0.4, 1.3), 0.5
"""Range of the factor on what lights give, and how far they are moved along each axis at most."""
TINT = (0.35, 1.15)
"""Range of the factor on red, green and blue of a surface, each drawn by itself."""
PIXEL_NOISE = 12.0
"""Standard deviation of the noise on every pixel and channel, of 255."""


class Look:
    """Changes what cameras see of a model, never what happens; the model's own look is kept and comes back.

    A look is a function of the generator that draws it. It belongs to the episode and is no part of a simulator state.
    """

    def __init__(self, model: mujoco.MjModel, kinds: Collection[str], *, cameras: Collection[str]) -> None:
        """`cameras` are the model's names of those in use; of these, the ones that stand in the room may move.

        Raises ValueError for a kind that does not exist.
        """
        self._model = model
        self._kinds = tuple(kind for kind in LOOKS if kind in kinds)
        for kind in kinds:
            require_look(kind)
        used = [int(model.camera(name).id) for name in cameras]
        self._cameras = [camera for camera in used if model.body_weldid[model.cam_bodyid[camera]] == 0]
        self._own = {name: getattr(model, name).copy() for name in CHANGED}
        self._headlight = {name: getattr(model.vis.headlight, name).copy() for name in ("ambient", "diffuse")}
        self._salt = b""

    def draw(self, rng: np.random.Generator) -> None:
        """Give the model a new look, starting from its own; cameras and lights move when poses are computed next."""
        for name, values in self._own.items():
            getattr(self._model, name)[:] = values
        for name, values in self._headlight.items():
            getattr(self._model.vis.headlight, name)[:] = values
        for kind in self._kinds:
            LOOKS[kind](self, rng)
        self._salt = rng.bytes(8)

    def draw_for(self, data: mujoco.MjData) -> None:
        """Give the model the look that goes with the placement in its data: equal placement, equal look."""
        self.draw(_rng_of(data.qpos.tobytes()))
        mujoco.mj_camlight(self._model, data)

    def spoil(self, images: Mapping[str, np.ndarray], data: mujoco.MjData) -> dict[str, np.ndarray]:
        """Return images uint8 [Y, X, 3] with what is added after drawing, a function of look and state."""
        if "noise" not in self._kinds:
            return dict(images)
        rng = _rng_of(self._salt + data.qpos.tobytes())
        return {name: _noisy(image, rng) for name, image in images.items()}

    def _move_cameras(self, rng: np.random.Generator) -> None:
        for camera in self._cameras:
            self._model.cam_pos[camera] += rng.uniform(-SHIFT_M, SHIFT_M, 3)
            axis = rng.standard_normal(3)
            turn, turned = np.empty(4), np.empty(4)
            mujoco.mju_axisAngle2Quat(turn, axis / np.linalg.norm(axis), rng.uniform(-TURN_RAD, TURN_RAD))
            mujoco.mju_mulQuat(turned, self._model.cam_quat[camera], turn)
            self._model.cam_quat[camera] = turned

    def _change_light(self, rng: np.random.Generator) -> None:
        model, factor = self._model, rng.uniform(*BRIGHTNESS)
        for colours in (model.light_ambient, model.light_diffuse, model.light_specular):
            colours[:] = np.minimum(colours * factor, 1.0)
        for colours in (model.vis.headlight.ambient, model.vis.headlight.diffuse):
            colours[:] = np.minimum(colours * factor, 1.0)
        model.light_pos[:] += rng.uniform(-LIGHT_SHIFT_M, LIGHT_SHIFT_M, model.light_pos.shape)

    def _tint_surfaces(self, rng: np.random.Generator) -> None:
        """Tint what never moves: floor, walls, tables and what stands on them for good."""
        model = self._model
        still = np.flatnonzero(model.body_weldid[model.geom_bodyid] == 0)
        for material in sorted(set(model.geom_matid[still].tolist()) - {-1}):
            model.mat_rgba[material, :3] = np.minimum(model.mat_rgba[material, :3] * rng.uniform(*TINT, 3), 1.0)
        plain = still[model.geom_matid[still] < 0]
        model.geom_rgba[plain, :3] = np.minimum(model.geom_rgba[plain, :3] * rng.uniform(*TINT, (len(plain), 3)), 1.0)


CHANGED = ("cam_pos", "cam_quat", "light_pos", "light_ambient", "light_diffuse", "light_specular", "mat_rgba", "geom_rgba")
"""Arrays of the model that a look may change."""
LOOKS: Mapping[str, Callable[[Look, np.random.Generator], None]] = {
    "camera": Look._move_cameras,
    "light": Look._change_light,
    "texture": Look._tint_surfaces,
    "noise": lambda look, rng: None,  # added when images are taken
}
"""Kinds of looks by name."""


def require_look(kind: str) -> None:
    """Raise ValueError for a kind of look that does not exist."""
    if kind not in LOOKS:
        raise ValueError(f"perturbation is any of {', '.join(LOOKS)}, not {kind!r}")


def _rng_of(content: bytes) -> np.random.Generator:
    return np.random.default_rng(np.frombuffer(hashlib.sha256(content).digest(), np.uint32))


def _noisy(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    noise = PIXEL_NOISE * rng.standard_normal(image.shape, np.float32)
    return np.clip(image + noise, 0.0, 255.0).astype(np.uint8)
