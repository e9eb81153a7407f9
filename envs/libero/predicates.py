"""LIBERO's goal predicates on MuJoCo data: what lies on or in what, which drawer, door or knob is where."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable

import mujoco
import numpy as np

from envs.panda.scene import JointCondition, Scene

Predicate = Callable[[mujoco.MjData], bool]

# Distances of LIBERO's own definitions, metres.
REGION_SLACK_BELOW = 0.01
SURFACE_SLACK_BELOW = 0.005
SURFACE_REACH_ABOVE = 0.10
STACK_RADIUS = 0.03
CONTAINER_SUFFIX = "_contain_region"
"""How LIBERO's names of regions inside containers end."""
PLACE_PREDICATES = ("on", "in")
JOINT_PREDICATES = ("open", "close", "turnon", "turnoff")
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def compile_goal(model: mujoco.MjModel, scene: Scene) -> Predicate:
    """Return a function that tells whether all predicates of the goal hold for the poses and contacts in its data.

    Raises ValueError for a predicate that is not known.
    """
    predicates = [compile_predicate(model, scene, predicate) for predicate in scene.goal]
    return lambda data: all(predicate(data) for predicate in predicates)


def region_relations(scene: Scene) -> dict[str, str]:
    """Return {region: 'in' | 'on'} of objects' regions whose meaning is known: containers, and what the goal names."""
    relations = {region: "in" for region in scene.site_sizes if region.endswith(CONTAINER_SUFFIX)}
    relations |= {
        place[-1]: relation for relation, *place in scene.goal if relation in ("in", "on") and place[-1] in scene.site_sizes
    }
    return {region: relation for region, relation in relations.items() if scene.site_parents[region]}


def compile_relations(model: mujoco.MjModel, scene: Scene) -> Callable[[mujoco.MjData], list[tuple[str, str, str]]]:
    """Return a function that lists (relation, object, object) for all movable objects in or on the regions of others."""
    checks = [
        ((relation, subject, scene.site_parents[region]), compile_predicate(model, scene, (relation, subject, region)))
        for region, relation in region_relations(scene).items()
        for subject in scene.object_joints
        if subject != scene.site_parents[region]
    ]
    return lambda data: [words for words, check in checks if check(data)]


def compile_predicate(model: mujoco.MjModel, scene: Scene, predicate: tuple[str, ...]) -> Predicate:
    """Look up one predicate's bodies, sites, geoms and joints once, and return the check; ValueError where it is not known."""
    if len(predicate) == 2 and predicate[0] in JOINT_PREDICATES:
        return _compile_joint_predicate(model, scene, *predicate)
    if len(predicate) != 3 or predicate[0] not in PLACE_PREDICATES:
        raise ValueError(
            f"the predicate {' '.join(predicate)!r} is not known; {', '.join(PLACE_PREDICATES)} of two things are, and "
            f"{', '.join(JOINT_PREDICATES)} of one"
        )
    relation, subject, target = predicate
    body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, scene.object_bodies[subject])
    if target not in scene.site_sizes:
        if relation == "in":
            raise ValueError(f"{subject} in {target}: LIBERO defines 'in' for regions only")
        return _on_object(model, scene, subject, target, body)
    site = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, target)
    half_size = np.array(scene.site_sizes[target])
    if relation == "in":
        return lambda data: _is_in_box(data.site_xpos[site], data.site_xmat[site], half_size, data.xpos[body])
    parent = scene.site_parents[target]
    touches = _touching(model, scene, subject, parent) if parent else (lambda data: True)
    return lambda data: _is_over_box(data.site_xpos[site], data.site_xmat[site], half_size, data.xpos[body]) and touches(data)


def compile_lamps(model: mujoco.MjModel, scene: Scene) -> Callable[[mujoco.MjData], None]:
    """Return a function that makes the sites of burners visible in the model while they are on, and hides them else."""
    lamps = [
        (mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, site), compile_predicate(model, scene, ("turnon", fixture)))
        for site, fixture in scene.lamps.items()
    ]

    def update(data: mujoco.MjData) -> None:
        for site, is_on in lamps:
            model.site_rgba[site, 3] = float(is_on(data))

    return update


def _compile_joint_predicate(model: mujoco.MjModel, scene: Scene, word: str, thing: str) -> Predicate:
    conditions = scene.joint_conditions.get(thing, {})
    if word not in conditions:
        raise ValueError(f"{thing} has no joints that {word} could mean; it knows {', '.join(conditions) or 'none of these'}")
    return _joint_check(model, conditions[word])


def _joint_check(model: mujoco.MjModel, condition: JointCondition) -> Predicate:
    compare, bound = COMPARISONS[condition.comparison], condition.bound
    addresses = [int(model.joint(name).qposadr[0]) for name in condition.joints]
    decide = all if condition.needs_all else any
    return lambda data: decide(compare(data.qpos[address], bound) for address in addresses)


def _is_in_box(centre: np.ndarray, rotation: np.ndarray, half_size: np.ndarray, point: np.ndarray) -> bool:
    reach = np.abs(rotation.reshape(3, 3) @ half_size)
    low, high = centre - reach, centre + reach
    low[2] -= REGION_SLACK_BELOW
    return bool((point > low).all() and (point < high).all())


def _is_over_box(centre: np.ndarray, rotation: np.ndarray, half_size: np.ndarray, point: np.ndarray) -> bool:
    x, y, height = rotation.reshape(3, 3) @ (point - centre)
    is_at_height = half_size[2] - SURFACE_SLACK_BELOW < height < half_size[2] + SURFACE_REACH_ABOVE
    return bool(is_at_height and abs(x) < half_size[0] and abs(y) < half_size[1])


def _on_object(model: mujoco.MjModel, scene: Scene, subject: str, target: str, body: int) -> Predicate:
    support = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, scene.object_bodies[target])
    touches = _touching(model, scene, subject, target)

    def check(data: mujoco.MjData) -> bool:
        below, above = data.xpos[support], data.xpos[body]
        if not below[2] <= above[2] or not np.linalg.norm(below[:2] - above[:2]) < STACK_RADIUS:
            return False
        return touches(data)

    return check


def _touching(model: mujoco.MjModel, scene: Scene, first: str, second: str) -> Predicate:
    """Return a check for a contact between the geoms of two objects."""
    is_first, is_second = _geom_mask(model, scene.contact_geoms[first]), _geom_mask(model, scene.contact_geoms[second])

    def check(data: mujoco.MjData) -> bool:
        one, other = data.contact.geom[: data.ncon].T
        return bool(((is_first[one] & is_second[other]) | (is_first[other] & is_second[one])).any())

    return check


def _geom_mask(model: mujoco.MjModel, names: Iterable[str]) -> np.ndarray:
    mask = np.zeros(model.ngeom, bool)
    for name in names:
        mask[model.geom(name).id] = True
    return mask
