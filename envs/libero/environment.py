"""The gymnasium environment of a LIBERO task, in two fidelities."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import mujoco
import numpy as np

from envs.conventions import asked_initial_state
from envs.grounding import Grounding
from envs.libero.controller import FINGER_JOINTS, GRIPPER_SITE
from envs.libero.physics import CONTROL_HZ, LeanPhysics, Physics
from envs.libero.placement import draw_initial_state, official_initial_state
from envs.libero.predicates import Predicate, compile_lamps, compile_predicate, compile_relations, region_relations
from envs.libero.protocols import AGENTVIEW, WRIST, require_protocol, shown
from envs.libero.scene import LoadedScene, Progress, load_scene, source_versions
from envs.libero.suites import OLDEST_SUITE, require_task
from envs.libero.words import group_of, spoken_name
from envs.rendering import Renderer, describe_backend

CAMERAS = {"agentview": AGENTVIEW, "wrist": WRIST}
"""Public camera name to the scene's, where no protocol names them."""
IMAGE_SIZE = 64
"""Side of the images, pixels, where neither an option nor a protocol says it."""
STATE_NAMES = ("x", "y", "z", "rx", "ry", "rz", "finger_1", "finger_2")
STATE_UNITS = ("m", "m", "m", "rad", "rad", "rad", "m", "m")
ACTION_NAMES = ("dx", "dy", "dz", "drx", "dry", "drz", "gripper")
ACTION_UNITS = ("0.05 m", "0.05 m", "0.05 m", "0.5 rad", "0.5 rad", "0.5 rad", "-1 open, 1 close")
STEPPINGS = ("fast", "exact")
NUM_SETTLING_STEPS = 10
"""Control steps with the gripper opening before an episode begins, as published evaluations wait (openpi, examples/libero)."""
SETTLING_ACTION = np.array([0.0, 0, 0, 0, 0, 0, -1])
COLLISION_GEOM_GROUP = 0
HAND_BODY = "robot0_right_hand"


class LiberoEnv(gymnasium.Env):
    """A LIBERO task with camera images and proprioception, delta end-effector actions and a sparse reward.

    Observations are ``{"images": {camera: uint8 [Y, X, 3]}, "state": float32 [8]}``: gripper position (m), hand rotation as
    axis-angle (rad, as robosuite gives it, without a jump at π), finger joints (m). Actions are float32 [7] in [-1, 1]:
    0.05 m and 0.5 rad per unit, gripper −1 open, +1 close. ``reset(options={"initial_state": i})`` takes the i-th official
    state; without it the seed draws one from the task's own placement regions. Both then settle for ten steps.
    """

    metadata: dict[str, Any] = {"render_modes": [], "render_fps": CONTROL_HZ}  # noqa: RUF012, gymnasium declares it so

    def __init__(
        self,
        *,
        suite: str = "libero_object",
        task_id: int = 0,
        stepping: str = "fast",
        image_size: int | None = None,
        cameras: Sequence[str] | None = None,
        timestep_ms: float = 2,
        max_steps: int | None = None,
        protocol: str | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        """Open the task's scene, building it first where the cache lacks it (about ten seconds, told to `on_progress`).

        `stepping` is "fast" (plain MuJoCo, decimated pixels) or "exact" (stock LIBERO and robosuite, original meshes).
        A `timestep_ms` above 2 is faster but not the official physics. A `protocol` (openpi, lerobot, tensorauto) names the
        cameras as that project does, shows images of its size and mirrored as it does, and has its step limits; options
        given besides win. Raises ValueError for values that do not exist, RuntimeError when no OpenGL works or the scene
        cannot be built.
        """
        limits = require_task(suite, task_id)
        rules = require_protocol(protocol) if protocol else None
        scene_cameras = rules.cameras if rules else CAMERAS
        cameras = tuple(scene_cameras) if cameras is None else tuple(cameras)
        image_size = (rules.image_size if rules else IMAGE_SIZE) if image_size is None else image_size
        _require_options(stepping, image_size, cameras, timestep_ms, known_cameras=scene_cameras)
        if max_steps is not None and max_steps < 1:
            raise ValueError(f"max_steps is at least 1, not {max_steps}")
        loaded = load_scene(suite, task_id, on_progress=on_progress)
        self.physics = _physics(loaded, stepping, timestep_ms)
        self._initial_states = loaded.initial_states
        scene = self.physics.scene
        self.prompt = scene.prompt
        self.task_id = f"{suite}/{task_id}"
        self.goal: Sequence[tuple[str, ...]] = scene.goal
        self.object_bodies: Mapping[str, str] = dict(scene.object_bodies)
        self.object_names: Mapping[str, str] = {key: spoken_name(key) for key in self.object_bodies}
        self.object_groups: Mapping[str, str] = {key: group_of(key) for key in self.object_bodies}
        self.places: Sequence[tuple[str, str]] = sorted(
            {(relation, scene.site_parents[site]) for site, relation in region_relations(scene).items()}
        )
        self.joint_conditions = scene.joint_conditions
        self.gripper_site = GRIPPER_SITE
        self.finger_joints = FINGER_JOINTS
        self.max_steps = max_steps or (rules.max_steps[suite] if rules else limits.max_steps)
        self.num_initial_states = len(self._initial_states)
        self._image_size, self._cameras = image_size, {name: scene_cameras[name] for name in cameras}
        self._rules = rules
        self._update_lamps = compile_lamps(self.model, scene)
        self._predicates: dict[tuple[str, ...], Predicate] = {}
        self._renderer: Renderer | None = None
        self._grounding: Grounding | None = None
        self._site = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_SITE, GRIPPER_SITE)
        self._hand = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_BODY, HAND_BODY)
        joints = [mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_JOINT, name) for name in FINGER_JOINTS]
        self._finger_qpos = self.model.jnt_qposadr[joints]
        self._num_steps = 0
        self.observation_space = _observation_space(cameras, image_size)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (7,), np.float32)
        self.metadata = type(self).metadata | {"interface": _interface(cameras, image_size)}
        facts: dict[str, object] = {
            "task": self.task_id, "stepping": stepping, "image_size": image_size, "cameras": cameras,
            "timestep_ms": timestep_ms, "mujoco": mujoco.__version__, "opengl": describe_backend().id,
            "scene": scene.content_hash,
        }  # fmt: skip
        if rules or suite != OLDEST_SUITE:  # whose ids are older than these facts, and stay
            facts |= {"versions": source_versions(), "protocol": rules.to_dict() if rules else None}
        self.env_id = _env_id(facts)

    @property
    def model(self) -> mujoco.MjModel:
        return self.physics.model

    @property
    def data(self) -> mujoco.MjData:
        return self.physics.data

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        """Begin an episode and return the first observation; see the class for seeds and official states."""
        super().reset(seed=seed)
        index = asked_initial_state(options)
        scene = self.physics.scene
        if index is None:
            state = draw_initial_state(self.model, scene, self.np_random)
        else:
            state = official_initial_state(self.model, scene, self._initial_states, index)
        self.physics.reset(state)
        for _ in range(self._rules.settling_steps if self._rules else NUM_SETTLING_STEPS):
            self.physics.step(SETTLING_ACTION)
        self._num_steps = 0
        return self.observe(), {"is_success": self.physics.is_success()}

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        """Advance one control step and observe."""
        reward, terminated, truncated, info = self.advance(action)
        return self.observe(), reward, terminated, truncated, info

    def advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict]:
        """Play one control step without rendering: reward, terminated (success), truncated (step limit), info.

        Raises ValueError for an action of another shape or with values that are not finite; larger ones are clipped.
        """
        command = np.asarray(action, np.float64)
        if command.shape != (7,) or not np.isfinite(command).all():
            raise ValueError(f"an action is 7 finite numbers in [-1, 1], got {np.asarray(action).tolist()}")
        self.physics.step(np.clip(command, -1.0, 1.0))
        self._num_steps += 1
        is_success = self.physics.is_success()
        return float(is_success), is_success, self._num_steps >= self.max_steps, {"is_success": is_success}

    def observe(self) -> dict[str, Any]:
        """Render and read the state, in fresh arrays."""
        return {"images": self._images(), "state": self._state()}

    def _images(self) -> dict[str, np.ndarray]:
        size = max(self._rules.render_size, self._image_size) if self._rules else self._image_size
        if self._renderer is None:
            self._renderer = Renderer(
                self.model,
                cameras=self._cameras,
                height=size,
                width=size,
                shadow_size=0,  # LIBERO's lights cast no shadows
                hidden_geom_groups=(COLLISION_GEOM_GROUP,),
                shows_sites=True,
            )
        self._update_lamps(self.data)
        images = self._renderer.render(self.data)
        if self._rules is None:
            return images
        is_mirrored = self._rules.is_mirrored
        return {name: shown(image, size=self._image_size, is_mirrored=is_mirrored) for name, image in images.items()}

    def holds(self, predicate: tuple[str, ...]) -> bool:
        """Return whether a predicate of LIBERO's, such as ("open", drawer), is true now; ValueError where it is not known."""
        if predicate not in self._predicates:
            self._predicates[predicate] = compile_predicate(self.model, self.physics.scene, predicate)
        return self._predicates[predicate](self.data)

    def ground_truth(self) -> dict[str, Any]:
        """Return what is true of the scene now, as plain data, for the cameras of the observations; see `Grounding.read`."""
        if self._grounding is None:
            relations = compile_relations(self.model, self.physics.scene)
            self._grounding = Grounding(
                self,
                cameras=self._cameras,
                image_size=self._image_size,
                hidden_geom_groups=(COLLISION_GEOM_GROUP,),
                relations=lambda: relations(self.data),
                is_mirrored=bool(self._rules and self._rules.is_mirrored),
            )
        return self._grounding.read()

    def _state(self) -> np.ndarray:
        state = np.empty(8, np.float32)
        state[:3] = self.data.site_xpos[self._site]
        state[3:6] = _axis_angle(self.data.xquat[self._hand])
        state[6:] = self.data.qpos[self._finger_qpos]
        return state

    def get_state(self) -> np.ndarray:
        """Return the full simulator state, fixtures and controller included, float64 [N]."""
        return self.physics.get_state()

    def set_state(self, state: np.ndarray) -> None:
        """Restore what `get_state` of this task returned, in either stepping; the step counter is not part of it."""
        self.physics.set_state(np.asarray(state, np.float64))

    def close(self) -> None:
        for drawing in (self._renderer, self._grounding):
            if drawing is not None:
                drawing.close()
        self._renderer = self._grounding = None
        self.physics.close()


def _physics(loaded: LoadedScene, stepping: str, timestep_ms: float) -> Physics:
    if stepping == "fast":
        return LeanPhysics(loaded, timestep_ms=timestep_ms)
    from envs.libero.exact import StockPhysics  # imports stock LIBERO, which the fast path never does

    return StockPhysics(loaded.scene)


def _require_options(
    stepping: str, image_size: int, cameras: Sequence[str], timestep_ms: float, *, known_cameras: Mapping[str, str]
) -> None:
    if stepping not in STEPPINGS:
        raise ValueError(f"stepping is one of {', '.join(STEPPINGS)}, not {stepping!r}")
    unknown = [name for name in cameras if name not in known_cameras]
    if unknown or not cameras:
        raise ValueError(f"cameras are some of {', '.join(known_cameras)}, not {', '.join(map(repr, unknown)) or 'none'}")
    if not 8 <= image_size <= 2048:
        raise ValueError(f"image_size is 8 to 2048 pixels, not {image_size}")
    period_ms = 1000 / CONTROL_HZ
    if not 0 < timestep_ms <= 5 or abs(period_ms / timestep_ms - round(period_ms / timestep_ms)) > 1e-9:
        raise ValueError(
            f"timestep_ms divides {period_ms:.0f} ms and is at most 5, not {timestep_ms}; 2 is the official physics"
        )
    if stepping == "exact" and timestep_ms != 2:
        raise ValueError(f"exact stepping has timestep_ms=2, not {timestep_ms}; other steps need stepping='fast'")


def _axis_angle(quaternion_wxyz: np.ndarray) -> np.ndarray:
    """Return axis times angle, the angle in [0, 2π): continuous while the quaternion is."""
    w = min(max(float(quaternion_wxyz[0]), -1.0), 1.0)
    sine = np.sqrt(1.0 - w * w)
    return quaternion_wxyz[1:] * (2.0 * np.arccos(w) / sine) if sine > 1e-12 else np.zeros(3)


def _observation_space(cameras: Sequence[str], image_size: int) -> gymnasium.spaces.Dict:
    image = gymnasium.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
    state = gymnasium.spaces.Box(-np.inf, np.inf, (len(STATE_NAMES),), np.float32)
    return gymnasium.spaces.Dict({"images": gymnasium.spaces.Dict({name: image for name in cameras}), "state": state})


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


def _env_id(facts: Mapping[str, object]) -> str:
    """Return a readable id with a hash of everything that decides what an episode looks like."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=list).encode()).hexdigest()
    return f"{facts['task']}-{facts['stepping']}-{digest[:16]}"
