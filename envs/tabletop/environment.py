"""The tabletop environment: a floating gripper, four coloured cubes and a tray, fast enough for tests of whole loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np

from envs.conventions import asked_initial_state, env_id, official_rng
from envs.grounding import Grounding
from envs.looks import Look
from envs.rendering import Renderer, describe_backend
from envs.states import read_state, write_state

SCENE = Path(__file__).with_name("scene.xml")
COLOURS = ("red", "green", "blue", "yellow")
CUBES = tuple(f"{colour}_cube" for colour in COLOURS)
CAMERAS = {"agentview": "agentview", "wrist": "robot0_eye_in_hand"}

STATE_NAMES = ("x", "y", "z", "rx", "ry", "rz", "finger_1", "finger_2")
STATE_UNITS = ("m", "m", "m", "rad", "rad", "rad", "m", "m")
ACTION_NAMES = ("dx", "dy", "dz", "drx", "dry", "drz", "gripper")
ACTION_UNITS = ("0.05 m", "0.05 m", "0.05 m", "0.5 rad", "0.5 rad", "0.5 rad", "-1 open, 1 close")
FINGER_JOINTS = ("gripper0_finger_joint1", "gripper0_finger_joint2")

CONTROL_HZ = 20.0
STEP_M, STEP_RAD = 0.05, 0.5
"""How far a full action asks the hand to move and turn in one control step."""
WORKSPACE_M = np.array([[-0.25, -0.32, 0.013], [0.25, 0.36, 0.35]])
YAW_LIMIT_RAD = 2.5

PLACEMENT_LOW_M, PLACEMENT_HIGH_M = np.array([-0.11, -0.26]), np.array([0.11, 0.05])
CUBE_SPACING_M = 0.085
"""Smallest distance between cube centres at the start: an open finger fits in between."""
ON_TRAY_M, ON_TRAY_HEIGHT_M = 0.07, 0.035
"""A cube lies on the tray when its centre is within this distance of the tray's along both axes, and not above this height."""

NUM_INITIAL_STATES = 50
OFFICIAL_ENTROPY = 20_260
"""Spawned seed sequences give the official states; plain seeds below 2**128 never produce the same stream."""


class TabletopEnv(gymnasium.Env[dict[str, Any], np.ndarray]):
    """Put the cube of one colour on the tray; state and actions are laid out as in `LiberoEnv`.

    Of an action's rotation only the last element acts (yaw about the world's z axis): the hand always points down.
    Observations are ``{"images": {camera: uint8 [Y, X, 3]}, "state": float32 [8]}``.
    """

    max_steps: int
    num_initial_states = NUM_INITIAL_STATES
    gripper_site = "gripper0_grip_site"
    finger_joints = FINGER_JOINTS
    places: Sequence[tuple[str, str]] = (("on", "tray"),)

    def __init__(
        self,
        *,
        task_id: int = 0,
        image_size: int = 64,
        placement_range: float = 0.25,
        max_steps: int = 100,
        perturbation: str | Sequence[str] = (),
    ) -> None:
        """Build the scene; `placement_range`, from 0 (cubes at home) to 1 (anywhere in their region), sets the difficulty.

        `perturbation` is one or several of `envs.looks.LOOKS`.
        """
        if not 0 <= task_id < len(COLOURS):
            raise ValueError(f"tabletop has the tasks 0 to {len(COLOURS) - 1}, got task_id={task_id}")
        if not 0.0 <= placement_range <= 1.0:
            raise ValueError(f"placement_range is {placement_range}; it lies between 0 (fixed) and 1 (anywhere)")
        if max_steps < 1 or not 8 <= image_size <= 2048:
            raise ValueError(f"max_steps is at least 1, image_size 8 to 2048 pixels; got {max_steps} and {image_size}")
        looks = [perturbation] if isinstance(perturbation, str) else list(perturbation)
        self.prompt = f"put the {COLOURS[task_id]} cube on the tray"
        self.task_id = f"tabletop/{task_id}"
        self.env_id = env_id(
            task=self.task_id, scene=SCENE.read_text(), image_size=image_size, placement_range=placement_range,
            max_steps=max_steps, mujoco=mujoco.__version__, opengl=describe_backend().id,
            **({"perturbation": sorted(looks)} if looks else {}),
        )  # fmt: skip
        self.max_steps = max_steps
        self.goal = (("on", CUBES[task_id], "tray"),)
        self.object_bodies: Mapping[str, str] = {name: name for name in (*CUBES, "tray")}
        self.object_names: Mapping[str, str] = {key: key.replace("_", " ") for key in self.object_bodies}
        self.object_groups: Mapping[str, str] = {key: "cubes" if key in CUBES else "" for key in self.object_bodies}
        self.model = mujoco.MjModel.from_xml_path(str(SCENE))
        self.data = mujoco.MjData(self.model)
        self._image_size, self._placement_range = image_size, placement_range
        self._look = Look(self.model, looks, cameras=CAMERAS.values()) if looks else None
        self._renderer: Renderer | None = None
        self._grounding: Grounding | None = None
        self._num_steps = 0
        self._substeps = round(1.0 / (CONTROL_HZ * self.model.opt.timestep))
        self._cube_qpos = [self.model.joint(name).qposadr[0] for name in CUBES]
        self._hand_qpos = self.model.joint("hand").qposadr[0]
        self._finger_qpos = [self.model.joint(name).qposadr[0] for name in FINGER_JOINTS]
        self._finger_bodies = [int(self.model.jnt_bodyid[self.model.joint(name).id]) for name in FINGER_JOINTS]
        self.metadata = {"render_modes": [], "render_fps": CONTROL_HZ, "interface": _interface(image_size)}
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (7,), np.float32)
        image = gymnasium.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        self.observation_space = gymnasium.spaces.Dict(
            {
                "images": gymnasium.spaces.Dict({camera: image for camera in CAMERAS}),
                "state": gymnasium.spaces.Box(-10.0, 10.0, (8,), np.float32),
            }
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode; ``options={"initial_state": i}`` picks an official state, else `seed` draws the placement."""
        super().reset(seed=seed)
        index = asked_initial_state(options)
        rng = self.np_random if index is None else _official_rng(index)
        mujoco.mj_resetData(self.model, self.data)
        for address, (x, y, yaw) in zip(self._cube_qpos, self._draw_placement(rng), strict=True):
            self.data.qpos[address : address + 2] = x, y
            self.data.qpos[address + 3 : address + 7] = np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)
        self.data.qpos[self._finger_qpos] = self.data.ctrl[:] = 0.04, -0.04
        mujoco.mj_forward(self.model, self.data)
        if self._look is not None:
            self._look.draw_for(self.data)
        self._num_steps = 0
        return self.observe(), {"is_success": False}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Play one control step and render."""
        reward, terminated, truncated, info = self.advance(action)
        return self.observe(), reward, terminated, truncated, info

    def advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        """Play one control step without rendering: reward, terminated (success), truncated, info."""
        action = np.asarray(action, np.float64)
        if action.shape != (7,) or not np.isfinite(action).all():
            raise ValueError(f"an action is seven finite numbers in [-1, 1], got {action}")
        action = np.clip(action, -1.0, 1.0)
        address = self._hand_qpos
        position = self.data.qpos[address : address + 3] + STEP_M * action[:3]
        yaw = 2 * np.arctan2(self.data.qpos[address + 5], self.data.qpos[address + 4]) + STEP_RAD * action[5]
        yaw = np.clip(yaw, -YAW_LIMIT_RAD, YAW_LIMIT_RAD)
        self.data.mocap_pos[0] = np.clip(position, *WORKSPACE_M)
        self.data.mocap_quat[0] = 0.0, np.cos(yaw / 2), np.sin(yaw / 2), 0.0
        if action[6] != 0.0:
            self.data.ctrl[:] = (0.0, 0.0) if action[6] > 0.0 else (0.04, -0.04)
        mujoco.mj_step(self.model, self.data, self._substeps)
        mujoco.mj_fwdPosition(self.model, self.data)
        self._num_steps += 1
        is_success = self.is_success()
        return float(is_success), is_success, self._num_steps >= self.max_steps, {"is_success": is_success}

    def observe(self) -> dict[str, Any]:
        """Return images and state (grip position m, axis-angle rad, finger positions m) in fresh arrays."""
        if self._renderer is None:
            size = self._image_size
            self._renderer = Renderer(self.model, cameras=CAMERAS, height=size, width=size, shadow_size=0)
        hand = self.data.qpos[self._hand_qpos : self._hand_qpos + 7]
        state = np.concatenate([hand[:3], _axis_angle(hand[3:]), self.data.qpos[self._finger_qpos]])
        images = self._renderer.render(self.data)
        if self._look is not None:
            images = self._look.spoil(images, self.data)
        return {"images": images, "state": state.astype(np.float32)}

    def ground_truth(self) -> dict[str, Any]:
        """Return what is true of the scene now, as plain data; see `Grounding.read`."""
        if self._grounding is None:
            self._grounding = Grounding(
                self,
                cameras=CAMERAS,
                image_size=self._image_size,
                hidden_geom_groups=(),
                relations=lambda: [("on", cube, "tray") for cube in CUBES if self._is_on_tray(cube)],
            )
        return self._grounding.read()

    def get_state(self) -> np.ndarray:
        """Return the full simulator state, float64 [N]."""
        return read_state(self.model, self.data)

    def set_state(self, state: np.ndarray) -> None:
        """Restore what `get_state` returned; the step counter is not part of it."""
        write_state(self.model, self.data, state)

    def is_success(self) -> bool:
        """Return whether the cube lies on the tray and no finger touches it."""
        ((_, cube, _),) = self.goal
        if not self._is_on_tray(cube):
            return False
        pairs = self.model.geom_bodyid[self.data.contact.geom]
        is_touching = (pairs == self.data.body(cube).id).any(axis=1) & np.isin(pairs, self._finger_bodies).any(axis=1)
        return not is_touching.any()

    def _is_on_tray(self, cube: str) -> bool:
        offset = np.abs(self.data.body(cube).xpos - self.data.body("tray").xpos)
        return bool(offset[:2].max() <= ON_TRAY_M and offset[2] <= ON_TRAY_HEIGHT_M)

    def close(self) -> None:
        """Free the renderers; closing twice is allowed."""
        for drawing in (self._renderer, self._grounding):
            if drawing is not None:
                drawing.close()
        self._renderer = self._grounding = None

    def _draw_placement(self, rng: np.random.Generator) -> np.ndarray:
        """Draw x, y, yaw of every cube, [4, 3], far enough apart; homes and draws are blended by the placement range."""
        home = np.array([self.model.body(name).pos[:2] for name in CUBES])
        while True:
            anywhere = rng.uniform(PLACEMENT_LOW_M, PLACEMENT_HIGH_M, (len(CUBES), 2))
            position = home + self._placement_range * (anywhere - home)
            distance = np.linalg.norm(position[:, None] - position[None], axis=-1) + np.eye(len(CUBES))
            if distance.min() >= CUBE_SPACING_M:
                break
        yaw = self._placement_range * rng.uniform(-np.pi / 4, np.pi / 4, (len(CUBES), 1))
        return np.concatenate([position, yaw], axis=1)


def _official_rng(initial_state: int) -> np.random.Generator:
    return official_rng(initial_state, count=NUM_INITIAL_STATES, entropy=OFFICIAL_ENTROPY, family="tabletop")


def _interface(image_size: int) -> dict[str, Any]:
    return {
        "cameras": {camera: [image_size, image_size, 3] for camera in CAMERAS},
        "state_names": list(STATE_NAMES),
        "state_units": list(STATE_UNITS),
        "action_names": list(ACTION_NAMES),
        "action_units": list(ACTION_UNITS),
        "action_space": "delta_ee",
        "control_hz": CONTROL_HZ,
    }


def _axis_angle(quaternion: np.ndarray) -> np.ndarray:
    """Rotation vector with an angle in [0, 2π): continuous where the hand points down (angle π), unlike the shortest one."""
    sine = np.linalg.norm(quaternion[1:])
    return quaternion[1:] / max(sine, 1e-9) * 2 * np.arctan2(sine, quaternion[0])
