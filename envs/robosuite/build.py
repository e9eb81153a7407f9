"""Compiles the scene of one suite from stock robosuite; run as a program, in a process of its own."""

from __future__ import annotations

import dataclasses
import logging
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from envs.panda.compiling import content_hash, floats, lean_model, pair, point, require_same_physics
from envs.panda.scene import MODEL_FILE, SCENE_FILE, Placement, Scene
from envs.robosuite.scene import mesh_folder
from envs.robosuite.stock import make_stock_env
from envs.robosuite.tasks import SUITES

# Stock objects carry no type annotations; `Any` stands for them.

BUILD_SEED = 0
"""Of what robosuite draws when it makes a model: the size of Lift's cube, which a compiled scene freezes."""


def build(suite: str, folder: Path) -> None:
    """Write model and description of a suite into an existing folder."""
    np.random.seed(BUILD_SEED)  # noqa: NPY002, robosuite draws from the global generator
    env = make_stock_env(SUITES[suite].scene)
    env.visualize({name: False for name in env._visualizations})  # hides the markers, as a stock reset does
    stock = env.sim.model._model
    model = lean_model(env.model.get_xml(), stock, folder, mesh_folder=mesh_folder(), is_sampled=False)
    model.body_pos[:], model.body_quat[:] = stock.body_pos, stock.body_quat  # what a reset moves: bins, door, pictures
    require_same_physics(model, stock)
    mujoco.mj_saveModel(model, str(folder / MODEL_FILE))
    scene = _describe(suite, env)
    scene = dataclasses.replace(scene, content_hash=content_hash(model, np.empty(0), scene))
    (folder / SCENE_FILE).write_text(scene.to_json())


def _describe(suite: str, env: Any) -> Scene:
    things = {thing.name: thing for thing in env.model.mujoco_objects if not thing.name.startswith("Visual")}
    fixtures = [name for name in things if name == "Door"]
    robot = env.robots[0]
    return Scene(
        suite=suite,
        task_id=0,
        prompt="",
        goal=(),
        object_bodies={name: thing.root_body for name, thing in things.items()},
        object_joints={name: thing.joints[0] for name, thing in things.items() if name not in fixtures},
        contact_geoms={name: tuple(thing.contact_geoms) for name, thing in things.items()},
        site_sizes={},
        site_parents={},
        fixtures=tuple(fixtures),
        placements=tuple(_placements(env.placement_initializer, set(things))),
        joint_draws=(),
        arm_joints_at_rest=floats(robot.init_qpos),
        gripper_joints_at_rest=floats(robot.gripper.init_qpos),
        content_hash="",
    )


def _placements(sampler: Any, names: set[str]) -> Iterable[Placement]:
    """Read robosuite's samplers in the order in which it calls them."""
    samplers = sampler.samplers.values() if hasattr(sampler, "samplers") else [sampler]
    for each in samplers:
        for thing in each.mujoco_objects:
            if thing.name in names:
                yield _placement(each, thing)


def _placement(sampler: Any, thing: Any) -> Placement:
    bounds = sampler.rotation
    if bounds is None:
        bounds = (0.0, 2 * math.pi)
    elif not isinstance(bounds, tuple | list):
        bounds = (bounds, bounds)
    return Placement(
        object=thing.name,
        on="",
        x_ranges=(pair(sampler.x_range),),
        y_ranges=(pair(sampler.y_range),),
        origin=point(sampler.reference_pos),
        turned_origin=(0.0, 0.0, 0.0),
        z_offset=float(sampler.z_offset),
        rotations=((sampler.rotation_axis, float(min(bounds)), float(max(bounds))),),
        quaternion_order="wxyz",
        keeps_apart=bool(sampler.ensure_valid_placement),
        is_inside=bool(sampler.ensure_object_boundary_in_range),
        radius=float(thing.horizontal_radius),
        bottom=float(thing.bottom_offset[-1]),
        top=float(thing.top_offset[-1]),
    )


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    build(sys.argv[1], Path(sys.argv[2]))
