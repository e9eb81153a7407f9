"""The gymnasium environment of a LIBERO task: lean or stock stepping, decimated or original meshes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
import numpy as np

from envs.conventions import asked_initial_state
from envs.grounding import Grounding
from envs.libero.official import official_initial_state
from envs.libero.physics import LeanPhysics, Physics
from envs.libero.predicates import Predicate, compile_lamps, compile_predicate, compile_relations, region_relations
from envs.libero.protocols import require_protocol, shown
from envs.libero.scene import load_scene, source_versions
from envs.libero.suites import OLDEST_SUITE, VARIANTS, require_task, variant_suite
from envs.libero.words import group_of, spoken_name
from envs.looks import LOOKS
from envs.panda.environment import CAMERAS, COLLISION_GEOM_GROUP, LEAN_DRAWING, MORE_CAMERAS, PandaEnv, require_images
from envs.panda.physics import CONTROL_HZ
from envs.panda.placement import draw_initial_state
from envs.panda.scene import LoadedScene, Progress
from envs.rendering import describe_backend

IMAGE_SIZE = 64
"""Side of the images, pixels, where neither an option nor a protocol says it."""
STEPPINGS = ("fast", "exact")
DECIMATED, ORIGINAL = MESHES = ("decimated", "original")
STOCK_DRAWING = {"shadow_size": 4096, "num_samples": 4, "has_reflections": True}
"""Options of `Renderer` that draw as robosuite does, which leaves all at MuJoCo's defaults."""
NUM_SETTLING_STEPS = 10
"""Control steps with the gripper opening before an episode begins, as published evaluations wait (openpi, examples/libero)."""
SETTLING_ACTION = np.array([0.0, 0, 0, 0, 0, 0, -1])


class LiberoEnv(PandaEnv):
    """A LIBERO task with camera images and proprioception, delta end-effector actions and a sparse reward.

    Observations are ``{"images": {camera: uint8 [Y, X, 3]}, "state": float32 [8]}``: gripper position (m), hand rotation as
    axis-angle (rad, as robosuite gives it, without a jump at π), finger joints (m). Actions are float32 [7] in [-1, 1]:
    0.05 m and 0.5 rad per unit, gripper −1 open, +1 close. ``reset(options={"initial_state": i})`` takes the i-th official
    state; without it the seed draws one from the task's own placement regions. Both then settle for ten steps.
    """

    def __init__(
        self,
        *,
        suite: str = "libero_object",
        task_id: int = 0,
        stepping: str = "fast",
        meshes: str | None = None,
        image_size: int | None = None,
        cameras: Sequence[str] | None = None,
        timestep_ms: float = 2,
        max_steps: int | None = None,
        protocol: str | None = None,
        perturbation: str | Sequence[str] = (),
        on_progress: Progress | None = None,
    ) -> None:
        """Open the task's scene, building it first where the cache lacks it (about ten seconds, told to `on_progress`).

        `stepping` is "fast" (plain MuJoCo) or "exact" (stock LIBERO and robosuite). `meshes` are "decimated", or "original"
        with all else that makes stock's pixels; None is original where figures are to compare with others', that is under a
        protocol or exact stepping, which has no others.
        A `timestep_ms` above 2 is faster but not the official physics. A `protocol` (openpi, lerobot, tensorauto) names the
        cameras as that project does, shows images of its size and mirrored as it does, and has its step limits; options
        given besides win. `perturbation` is one or several of `envs.looks.LOOKS` and at most one of LIBERO-PRO's
        (`envs.libero.suites.VARIANTS`).

        Raises ValueError for values that do not exist, RuntimeError when no OpenGL works or the scene cannot be built.
        """
        limits = require_task(suite, task_id)
        perturbations = [perturbation] if isinstance(perturbation, str) else list(perturbation)
        looks, scene_suite = _perturbed(suite, perturbations)
        rules = require_protocol(protocol) if protocol else None
        scene_cameras = dict(rules.cameras if rules else CAMERAS)
        cameras = tuple(scene_cameras) if cameras is None else tuple(cameras)
        image_size = (rules.image_size if rules else IMAGE_SIZE) if image_size is None else image_size
        meshes = meshes or (ORIGINAL if protocol or stepping == "exact" else DECIMATED)
        _require_stepping(stepping, timestep_ms, meshes)
        scene_cameras |= MORE_CAMERAS
        require_images(image_size, cameras, max_steps, known_cameras=scene_cameras)
        is_drawn_from_cache = meshes == ORIGINAL and stepping == "fast"  # stock has its own
        loaded = load_scene(scene_suite, task_id, is_original=is_drawn_from_cache, on_progress=on_progress)
        self.physics = _physics(loaded, stepping, timestep_ms)
        used = {name: scene_cameras[name] for name in cameras}
        drawing = STOCK_DRAWING if meshes == ORIGINAL else LEAN_DRAWING
        super().__init__(self.physics, cameras=used, image_size=image_size, looks=looks, drawing=drawing)
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
        self.max_steps = max_steps or (rules.max_steps[suite] if rules else limits.max_steps)
        self.num_initial_states = len(self._initial_states)
        self._rules = rules
        self._update_lamps = compile_lamps(self.model, scene)
        self._predicates: dict[tuple[str, ...], Predicate] = {}
        self._grounding: Grounding | None = None
        facts: dict[str, object] = {
            "task": self.task_id, "stepping": stepping, "image_size": image_size, "cameras": cameras,
            "timestep_ms": timestep_ms, "mujoco": mujoco.__version__, "opengl": describe_backend().id,
            "scene": scene.content_hash,
        }  # fmt: skip
        if rules or suite != OLDEST_SUITE:  # whose ids are older than these facts, and stay
            facts |= {"versions": source_versions(), "protocol": rules.to_dict() if rules else None}
        if meshes == ORIGINAL:
            facts |= {"meshes": meshes}
        if perturbations:
            facts |= {"perturbation": sorted(perturbations)}
        self.env_id = _env_id(facts)

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
        self._dress()
        for _ in range(self._rules.settling_steps if self._rules else NUM_SETTLING_STEPS):
            self.physics.step(SETTLING_ACTION)
        self._num_steps = 0
        return self.observe(), {"is_success": self.is_success()}

    def is_success(self) -> bool:
        """Return whether the task's goal holds."""
        return self.physics.is_success()

    def _images(self) -> dict[str, np.ndarray]:
        size = max(self._rules.render_size, self._image_size) if self._rules else self._image_size
        self._update_lamps(self.data)
        images = self._drawn(size)
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

    def close(self) -> None:
        """Free the renderers and stock LIBERO; closing twice is allowed."""
        super().close()
        if self._grounding is not None:
            self._grounding.close()
        self._grounding = None
        self.physics.close()


def _perturbed(suite: str, perturbations: Sequence[str]) -> tuple[list[str], str]:
    """Return the looks and the suite whose scenes are shown."""
    variants = [name for name in perturbations if name in VARIANTS]
    looks = [name for name in perturbations if name not in VARIANTS]
    unknown = [name for name in looks if name not in LOOKS]
    if unknown or len(variants) > 1:
        raise ValueError(
            f"perturbation is any of {', '.join(LOOKS)} and at most one of {', '.join(VARIANTS)}, "
            f"not {', '.join(map(repr, perturbations))}"
        )
    return looks, variant_suite(suite, variants[0]) if variants else suite


def _physics(loaded: LoadedScene, stepping: str, timestep_ms: float) -> Physics:
    if stepping == "fast":
        return LeanPhysics(loaded, timestep_ms=timestep_ms)
    from envs.libero.exact import StockPhysics  # imports stock LIBERO, which the fast path never does

    return StockPhysics(loaded.scene)


def _require_stepping(stepping: str, timestep_ms: float, meshes: str) -> None:
    if stepping not in STEPPINGS:
        raise ValueError(f"stepping is one of {', '.join(STEPPINGS)}, not {stepping!r}")
    period_ms = 1000 / CONTROL_HZ
    if not 0 < timestep_ms <= 5 or abs(period_ms / timestep_ms - round(period_ms / timestep_ms)) > 1e-9:
        raise ValueError(
            f"timestep_ms divides {period_ms:.0f} ms and is at most 5, not {timestep_ms}; 2 is the official physics"
        )
    if meshes not in MESHES:
        raise ValueError(f"meshes is one of {', '.join(MESHES)}, not {meshes!r}")
    if stepping == "exact" and meshes != ORIGINAL:
        raise ValueError(f"exact stepping has meshes=original, not {meshes!r}; decimated ones need stepping='fast'")
    if stepping == "exact" and timestep_ms != 2:
        raise ValueError(f"exact stepping has timestep_ms=2, not {timestep_ms}; other steps need stepping='fast'")


def _env_id(facts: Mapping[str, object]) -> str:
    """Return a readable id with a hash of everything that decides what an episode looks like."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=list).encode()).hexdigest()
    return f"{facts['task']}-{facts['stepping']}-{digest[:16]}"
