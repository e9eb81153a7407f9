"""Reads off stock LIBERO which joint positions mean open, closed, on or off, and which places move with a drawer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import mujoco
import numpy as np

from envs.libero.predicates import COMPARISONS
from envs.panda.scene import JointCondition

# Stock objects carry no type annotations; `Any` stands for them.

METHODS = {"open": "is_open", "close": "is_close", "turnon": "turn_on", "turnoff": "turn_off"}
"""Predicate to the method by which LIBERO's fixtures judge one joint."""
ONE_JOINT_IS_ENOUGH = ("open", "turnon")
"""Predicates that hold when they hold for one of several joints; the others need all."""
PROBE = 1e-6
"""How far beside a bound a fixture is asked, m or rad."""


def joint_conditions(env: Any) -> dict[str, dict[str, JointCondition]]:
    """Return the conditions of every fixture, object and region with joints, {name: {predicate: condition}}."""
    found: dict[str, dict[str, JointCondition]] = {}
    for name, thing in {**env.objects_dict, **env.fixtures_dict, **env.object_sites_dict}.items():
        is_region = name in env.object_sites_dict
        judge = env.get_object(thing.parent_name) if is_region and thing.parent_name else thing
        # LIBERO asks regions whether they are open, never whether they are on.
        words = [word for word in METHODS if not is_region or word in ("open", "close")]
        if conditions := dict(_conditions(judge, tuple(thing.joints or ()), words)):
            found[name] = conditions
    return found


def _conditions(judge: Any, joints: tuple[str, ...], words: Iterable[str]) -> Iterable[tuple[str, JointCondition]]:
    ranges = judge.object_properties.get("articulation", {}) if hasattr(judge, "object_properties") else {}
    for word in words:
        bounds = ranges.get(f"default_{word}_ranges")
        if bounds and joints:
            comparison, bound = _comparison(getattr(judge, METHODS[word]), bounds)
            yield (
                word,
                JointCondition(joints=joints, comparison=comparison, bound=bound, needs_all=word not in ONE_JOINT_IS_ENOUGH),
            )


def _comparison(holds: Callable[[float], bool], bounds: Iterable[float]) -> tuple[str, float]:
    """Return how a fixture's method compares a joint with which end of its range, found by asking it around both ends."""
    ends = sorted(float(bound) for bound in bounds)
    probes = [end + step for end in ends for step in (-PROBE, 0.0, PROBE)] + [(ends[0] + ends[1]) / 2]
    answers = [bool(holds(probe)) for probe in probes]
    for bound in ends:
        for name, compare in COMPARISONS.items():
            if [compare(probe, bound) for probe in probes] == answers:
                return name, bound
    raise ValueError(f"a fixture's range {ends} is not compared with one of its ends: at {probes} it says {answers}")


def slide_of(sim: Any, site: str) -> tuple[str, tuple[float, float, float], float]:
    """Return the slide joint that a site moves along with, its axis and its position now; '' where the site stands still.

    Raises ValueError for a site on a door that turns.
    """
    model, data = sim.model._model, sim.data._data
    body = int(model.site(site).bodyid[0])
    if model.body_jntnum[body] == 0:
        return "", (0.0, 0.0, 0.0), 0.0
    joint = int(model.body_jntadr[body])
    if model.body_jntnum[body] > 1 or model.jnt_type[joint] != mujoco.mjtJoint.mjJNT_SLIDE:
        raise ValueError(f"the site {site} is placed on and moves by other joints than one slide; only drawers are known")
    x, y, z = np.asarray(data.xaxis[joint], np.float64)
    return model.joint(joint).name, (float(x), float(y), float(z)), float(data.qpos[model.jnt_qposadr[joint]])
