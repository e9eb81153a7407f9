"""What a compiled scene is, and what keeps two processes from building one at once."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

MODEL_FILE = "model.mjb"
SCENE_FILE = "scene.json"

Progress = Callable[[str, float], None]
"""Called with what is done and the fraction of the work behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """How an object is placed when an episode begins: drawn uniformly in a rectangle, upright, apart from the others."""

    object: str
    on: str
    """Object or fixture placed before, which it is put on or into; empty for the workspace."""
    x_ranges: tuple[tuple[float, float], ...]
    """Bounds of the rectangles relative to the origin, metres; one rectangle is drawn first."""
    y_ranges: tuple[tuple[float, float], ...]
    origin: tuple[float, float, float]
    """Origin of the rectangles and height of the surface, metres; relative to `on` where that names something."""
    turned_origin: tuple[float, float, float]
    """Added to `origin` after turning with `on`, metres."""
    z_offset: float
    """Height above the surface, metres."""
    rotations: tuple[tuple[str, float, float], ...]
    """(axis, smallest, largest angle) in rad, applied in this order."""
    quaternion_order: str
    """'wxyz', or 'xyzw' where LIBERO hands over its quaternion in the order that MuJoCo reads differently."""
    keeps_apart: bool
    """Whether the object must not overlap those placed before it."""
    is_inside: bool
    """Whether the whole object, not only its centre, lies in the rectangle."""
    radius: float
    """Horizontal radius of the object, metres."""
    bottom: float
    """Lowest point relative to the object's origin, metres (negative)."""
    top: float
    """Highest point relative to the object's origin, metres."""
    slide_joint: str = ""
    """Joint of `on` that the place moves along with, as a drawer's; empty for places that stay."""
    slide: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """What one metre of it adds to `turned_origin`, metres."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JointDraw:
    """Joints (drawers, knobs) that get one common value when an episode begins."""

    joints: tuple[str, ...]
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JointCondition:
    """Where joints are when LIBERO calls something open or closed, on or off; bounds in m or rad."""

    joints: tuple[str, ...]
    """Names in the model, such as 'wooden_cabinet_1_top_level'."""
    comparison: str
    """'<', '<=', '>' or '>=': how a joint is compared with the bound."""
    bound: float
    needs_all: bool
    """Whether all joints must be there, or one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All that is known of a task besides the MuJoCo model."""

    suite: str
    task_id: int
    prompt: str
    goal: tuple[tuple[str, ...], ...]
    """Predicates that must all hold, e.g. ('in', 'milk_1', 'basket_1_contain_region')."""
    object_bodies: Mapping[str, str]
    """LIBERO's object or fixture name to MuJoCo body."""
    object_joints: Mapping[str, str]
    """Movable object to its free joint."""
    contact_geoms: Mapping[str, tuple[str, ...]]
    """Object or fixture to the geoms that count as touching it."""
    site_sizes: Mapping[str, tuple[float, float, float]]
    """Region to the half sizes of its box, metres."""
    site_parents: Mapping[str, str]
    """Region to the object it belongs to; empty for regions of the workspace."""
    fixtures: tuple[str, ...]
    """Names of `object_bodies` that have no joint and are moved by changing the model."""
    placements: tuple[Placement, ...]
    """In the order in which LIBERO draws them."""
    joint_draws: tuple[JointDraw, ...]
    arm_joints_at_rest: tuple[float, ...]
    """rad [7]."""
    gripper_joints_at_rest: tuple[float, ...]
    """m [2]."""
    content_hash: str
    """sha256 over model, initial states and the rest of this description."""
    joint_conditions: Mapping[str, Mapping[str, JointCondition]] = field(default_factory=dict)
    """Fixture, or region such as one drawer, to {'open' | 'close' | 'turnon' | 'turnoff': where its joints are then}."""
    lamps: Mapping[str, str] = field(default_factory=dict)
    """Site that glows while something is turned on to the fixture whose 'turnon' that is."""

    def to_json(self) -> str:
        """Return the description; fields with defaults are left out at these, so that scenes without them keep their hash."""
        return json.dumps(_written(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Scene:
        plain = json.loads(text)
        plain["placements"] = tuple(Placement(**_tuples(placement)) for placement in plain["placements"])
        plain["joint_draws"] = tuple(JointDraw(**_tuples(draw)) for draw in plain["joint_draws"])
        for name in ("goal", "fixtures", "arm_joints_at_rest", "gripper_joints_at_rest"):
            plain[name] = _as_tuple(plain[name])
        for name in ("contact_geoms", "site_sizes"):
            plain[name] = _tuples(plain[name])
        plain["joint_conditions"] = {
            thing: {word: JointCondition(**_tuples(condition)) for word, condition in conditions.items()}
            for thing, conditions in plain.get("joint_conditions", {}).items()
        }
        return cls(**plain)


def _written(value: Any) -> Any:
    """Return a description as plain data without the fields that are at their default."""
    if dataclasses.is_dataclass(value):
        kept = [each for each in dataclasses.fields(value) if getattr(value, each.name) != _default(each)]
        return {each.name: _written(getattr(value, each.name)) for each in kept}
    if isinstance(value, Mapping):
        return {key: _written(item) for key, item in value.items()}
    return [_written(item) for item in value] if isinstance(value, tuple) else value


def _default(declared: dataclasses.Field) -> object:
    return declared.default if declared.default_factory is dataclasses.MISSING else declared.default_factory()


def _as_tuple(value: object) -> object:
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list) else value


def _tuples(plain: Mapping[str, object]) -> dict:
    return {key: _as_tuple(value) for key, value in plain.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedScene:
    """A scene read from the cache, ready to simulate."""

    scene: Scene
    model: mujoco.MjModel
    initial_states: np.ndarray
    """Official initial states, float64 [50, 1 + nq + nv]: time, qpos, qvel."""


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[int]:
    """Hold a lock file, made where it is missing, and give its descriptor, which child processes may inherit."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()
