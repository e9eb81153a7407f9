"""What environments with the Panda do alike: cameras, state, actions, and how a control step is played and observed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import gymnasium
import mujoco
import numpy as np

from envs.looks import Look
from envs.panda.controller import FINGER_JOINTS, GRIPPER_SITE
from envs.panda.physics import CONTROL_HZ
from envs.panda.scene import Scene
from envs.rendering import Renderer

AGENTVIEW, WRIST = "agentview", "robot0_eye_in_hand"
"""The scenes' cameras that are offered."""
CAMERAS = {"agentview": AGENTVIEW, "wrist": WRIST}
"""Public camera name to the scene's."""
MORE_CAMERAS = {"front": "frontview", "side": "sideview", "bird": "birdview"}
"""Those that are shown only where they are asked for."""
STATE_NAMES = ("x", "y", "z", "rx", "ry", "rz", "finger_1", "finger_2")
STATE_UNITS = ("m", "m", "m", "rad", "rad", "rad", "m", "m")
ACTION_NAMES = ("dx", "dy", "dz", "drx", "dry", "drz", "gripper")
ACTION_UNITS = ("0.05 m", "0.05 m", "0.05 m", "0.5 rad", "0.5 rad", "0.5 rad", "-1 open, 1 close")
COLLISION_GEOM_GROUP = 0
HAND_BODY = "robot0_right_hand"
LEAN_DRAWING: Mapping[str, Any] = {"shadow_size": 0}
"""Options of `Renderer`: the lights of LIBERO and robosuite cast no shadows, and edges stay as they are."""


class SteppedScene(Protocol):
    """What a Panda environment asks of its physics."""

    @property
    def scene(self) -> Scene: ...
    @property
    def model(self) -> mujoco.MjModel: ...
    @property
    def data(self) -> mujoco.MjData: ...
    def step(self, action: np.ndarray) -> None: ...
    def get_state(self) -> np.ndarray: ...
    def set_state(self, state: np.ndarray) -> None: ...


class PandaEnv(gymnasium.Env):
    """An environment on a compiled scene with the Panda; subclasses begin episodes and judge them."""

    metadata: dict[str, Any] = {"render_modes": [], "render_fps": CONTROL_HZ}  # noqa: RUF012, gymnasium declares it so
    max_steps: int
    """Control steps an episode may take."""
    gripper_site = GRIPPER_SITE
    finger_joints = FINGER_JOINTS

    def __init__(
        self,
        physics: SteppedScene,
        *,
        cameras: Mapping[str, str],
        image_size: int,
        looks: Collection[str] = (),
        drawing: Mapping[str, Any] = LEAN_DRAWING,
    ) -> None:
        """`cameras` are {public name: the scene's}, drawn at `image_size` pixels a side; `looks` are of `envs.looks.LOOKS`.

        `drawing` are options of `Renderer`.
        """
        self._stepped = physics
        self._cameras, self._image_size, self._drawing = dict(cameras), image_size, drawing
        self._renderer: Renderer | None = None
        self._site = self.model.site(GRIPPER_SITE).id
        self._hand = self.model.body(HAND_BODY).id
        self._finger_qpos = [int(self.model.joint(name).qposadr[0]) for name in FINGER_JOINTS]
        self._look = Look(self.model, looks, cameras=self._cameras.values()) if looks else None
        self._num_steps = 0
        image = gymnasium.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        state = gymnasium.spaces.Box(-np.inf, np.inf, (len(STATE_NAMES),), np.float32)
        images = gymnasium.spaces.Dict({name: image for name in cameras})
        self.observation_space = gymnasium.spaces.Dict({"images": images, "state": state})
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (len(ACTION_NAMES),), np.float32)
        self.metadata = type(self).metadata | {"interface": _interface(tuple(cameras), image_size)}

    @property
    def model(self) -> mujoco.MjModel:
        return self._stepped.model

    @property
    def data(self) -> mujoco.MjData:
        return self._stepped.data

    def is_success(self) -> bool:
        """Return whether the task is done in the present state."""
        raise NotImplementedError

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Advance one control step and observe."""
        reward, terminated, truncated, info = self.advance(action)
        return self.observe(), reward, terminated, truncated, info

    def advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        """Play one control step without rendering: reward, terminated (success), truncated (step limit), info.

        Raises ValueError for an action of another shape or with values that are not finite; larger ones are clipped.
        """
        command = np.asarray(action, np.float64)
        if command.shape != (len(ACTION_NAMES),) or not np.isfinite(command).all():
            raise ValueError(f"an action is 7 finite numbers in [-1, 1], got {np.asarray(action).tolist()}")
        self._stepped.step(np.clip(command, -1.0, 1.0))
        self._num_steps += 1
        is_success = self.is_success()
        return float(is_success), is_success, self._num_steps >= self.max_steps, {"is_success": is_success}

    def observe(self) -> dict[str, Any]:
        """Render and read the state, in fresh arrays."""
        return {"images": self._images(), "state": self._state()}

    def _images(self) -> dict[str, np.ndarray]:
        return self._drawn(self._image_size)

    def _drawn(self, size: int) -> dict[str, np.ndarray]:
        """Return {camera: uint8 [size, size, 3]} of the present state; always ask for the same size."""
        if self._renderer is None:
            self._renderer = Renderer(
                self.model,
                cameras=self._cameras,
                height=size,
                width=size,
                **self._drawing,
                hidden_geom_groups=(COLLISION_GEOM_GROUP,),
                shows_sites=True,
            )
        images = self._renderer.render(self.data)
        return images if self._look is None else self._look.spoil(images, self.data)

    def _dress(self) -> None:
        """Give the episode whose placement is in the data its look."""
        if self._look is not None:
            self._look.draw_for(self.data)

    def _state(self) -> np.ndarray:
        state = np.empty(len(STATE_NAMES), np.float32)
        state[:3] = self.data.site_xpos[self._site]
        state[3:6] = axis_angle(self.data.xquat[self._hand])
        state[6:] = self.data.qpos[self._finger_qpos]
        return state

    def get_state(self) -> np.ndarray:
        """Return the full simulator state, fixtures and controller included, float64 [N]."""
        return self._stepped.get_state()

    def set_state(self, state: np.ndarray) -> None:
        """Restore what `get_state` of this task returned, in any stepping; the step counter is not part of it."""
        self._stepped.set_state(np.asarray(state, np.float64))

    def close(self) -> None:
        """Free the renderer; closing twice is allowed."""
        if self._renderer is not None:
            self._renderer.close()
        self._renderer = None


def require_images(image_size: int, cameras: Sequence[str], max_steps: int | None, *, known_cameras: Mapping[str, str]) -> None:
    """Raise ValueError for cameras, sizes or step limits that cannot be had."""
    unknown = [name for name in cameras if name not in known_cameras]
    if unknown or not cameras:
        raise ValueError(f"cameras are some of {', '.join(known_cameras)}, not {', '.join(map(repr, unknown)) or 'none'}")
    if not 8 <= image_size <= 2048:
        raise ValueError(f"image_size is 8 to 2048 pixels, not {image_size}")
    if max_steps is not None and max_steps < 1:
        raise ValueError(f"max_steps is at least 1, not {max_steps}")


def axis_angle(quaternion_wxyz: np.ndarray) -> np.ndarray:
    """Return axis times angle, the angle in [0, 2π): continuous while the quaternion is."""
    w = min(max(float(quaternion_wxyz[0]), -1.0), 1.0)
    sine = np.sqrt(1.0 - w * w)
    return quaternion_wxyz[1:] * (2.0 * np.arccos(w) / sine) if sine > 1e-12 else np.zeros(3)


def _interface(cameras: Sequence[str], image_size: int) -> dict[str, Any]:
    return {
        "cameras": {name: [image_size, image_size, 3] for name in cameras},
        "state_names": list(STATE_NAMES),
        "state_units": list(STATE_UNITS),
        "action_names": list(ACTION_NAMES),
        "action_units": list(ACTION_UNITS),
        "action_space": "delta_ee",
        "control_hz": CONTROL_HZ,
    }
