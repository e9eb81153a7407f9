"""Compiles the scene of one task from stock LIBERO; run as a program, in a process of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import logging
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from envs.libero.joints import joint_conditions, slide_of
from envs.libero.manifest import require_listed, scene_files
from envs.libero.predicates import compile_goal
from envs.libero.scene import STATES_FILE, mesh_folder
from envs.libero.stock import StockTask, make_stock_env, open_stock_task
from envs.libero.suites import ALL_SUITES
from envs.panda.compiling import content_hash, floats, lean_model, pair, point, require_same_physics
from envs.panda.scene import MODEL_FILE, SCENE_FILE, JointDraw, Placement, Scene

# Stock objects carry no type annotations; `Any` stands for them.


def build(suite: str, task_id: int, folder: Path, *, is_original: bool) -> None:
    """Write model, initial states and description of a task into an existing folder; an original one is drawn as stock is."""
    _report("opening stock LIBERO", 0.0)
    task = open_stock_task(suite, task_id)
    require_listed(task.files)  # before LIBERO reads them: it evaluates expressions in bddl files
    np.random.seed(0)  # noqa: NPY002, LIBERO draws the fixtures' first places from the global generator
    with contextlib.redirect_stdout(io.StringIO()):
        env = make_stock_env(task).env
        env.visualize({name: False for name in env._visualizations})  # hides the gripper's markers, as a stock reset does
    _report("checking third-party files", 0.35)
    require_listed(scene_files(env))
    stock = env.sim.model._model
    xml, version = env.model.get_xml(), ALL_SUITES[suite].scene_version
    if is_original:
        model = lean_model(xml, stock, folder, mesh_folder=None)
    else:
        _report("decimating meshes", 0.4)
        model = lean_model(xml, stock, folder, mesh_folder=mesh_folder(version), is_sampled=version > 1)
    for name in env.fixtures_dict:  # stock has drawn their places already
        body = env.obj_body_id[name]
        model.body_pos[body], model.body_quat[body] = stock.body_pos[body], stock.body_quat[body]
    require_same_physics(model, stock)
    _report("writing the scene", 0.95)
    mujoco.mj_saveModel(model, str(folder / MODEL_FILE))
    np.save(folder / STATES_FILE, np.asarray(task.initial_states, np.float64))
    scene = _describe(task, env)
    compile_goal(model, scene)  # raises where the goal says something that is not known
    scene = dataclasses.replace(scene, content_hash=content_hash(model, task.initial_states, scene))
    (folder / SCENE_FILE).write_text(scene.to_json())


def _report(step: str, fraction: float) -> None:
    print(json.dumps({"step": step, "fraction": fraction}), flush=True)


def _describe(task: StockTask, env: Any) -> Scene:
    model = env.sim.model._model
    objects, fixtures = env.objects_dict, env.fixtures_dict
    sites = {name: site for name, site in env.object_sites_dict.items()}
    robot = env.robots[0]
    return Scene(
        suite=task.suite,
        task_id=task.task_id,
        prompt=task.prompt,
        goal=tuple(tuple(predicate) for predicate in env.parsed_problem["goal_state"]),
        object_bodies={name: model.body(body_id).name for name, body_id in env.obj_body_id.items()},
        object_joints={name: thing.joints[-1] for name, thing in objects.items()},
        contact_geoms={name: tuple(thing.contact_geoms) for name, thing in {**objects, **fixtures}.items()},
        site_sizes={name: point(site.size) for name, site in sites.items()},
        site_parents={name: site.parent_name or "" for name, site in sites.items()},
        fixtures=tuple(fixtures),
        placements=tuple(_placements(env)),
        joint_draws=tuple(_joint_draws(env)),
        arm_joints_at_rest=floats(robot.init_qpos),
        gripper_joints_at_rest=floats(robot.gripper.init_qpos),
        content_hash="",
        joint_conditions=joint_conditions(env),
        lamps=dict(_lamps(env)),
    )


def _lamps(env: Any) -> Iterable[tuple[str, str]]:
    """Return the sites that LIBERO shows while a fixture is on, with the fixture."""
    for name in env.visualization_sites_list:
        for site, _ in env.get_object(name).object_properties["vis_site_names"].values():
            yield site, name


def _placements(env: Any) -> Iterable[Placement]:
    """Read LIBERO's samplers in the order in which it calls them."""
    for sampler in env.placement_initializer.samplers.values():
        yield _placement(sampler, on="", origin=sampler.reference_pos)
    composite = env.conditional_placement_initializer
    for name, sampler in composite.samplers.items():
        reference, site = composite.sample_args[name]["reference"], composite.sample_args[name]["site_name"]
        is_into = type(sampler).__name__ == "InSiteRegionRandomSampler"
        top = 0.0 if is_into else float(env.get_object(reference).top_offset[-1])
        # The fixture is where its file puts it: stock has moved it in the model since, and not computed poses again.
        joint, slide, opening = slide_of(env.sim, site)
        yield _placement(
            sampler,
            on=reference,
            origin=(0, 0, top),
            turned_origin=env.sim.data.get_site_xpos(site) - opening * np.array(slide),
            has_radius=not is_into,
            slide_joint=joint,
            slide=slide,
        )
    composite = env.conditional_placement_on_objects_initializer
    for name, sampler in composite.samplers.items():
        reference = composite.sample_args[name]["reference"]
        yield _placement(sampler, on=reference, origin=(0, 0, float(env.get_object(reference).top_offset[-1])))


def _placement(
    sampler: Any,
    *,
    on: str,
    origin: Iterable[float],
    turned_origin: Iterable[float] = (0, 0, 0),
    has_radius: bool = True,
    slide_joint: str = "",
    slide: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Placement:
    (thing,) = sampler.mujoco_objects
    rotation, axis = sampler.rotation, sampler.rotation_axis
    if rotation is None:
        rotation = (0.0, 2 * math.pi)
    elif not isinstance(rotation, dict | tuple | list):
        rotation = (rotation, rotation)
    by_axis = rotation if isinstance(rotation, dict) else {axis: rotation}
    return Placement(
        object=thing.name,
        on=on,
        x_ranges=tuple(pair(bounds) for bounds in sampler.x_ranges),
        y_ranges=tuple(pair(bounds) for bounds in sampler.y_ranges),
        origin=point(origin),
        turned_origin=point(turned_origin),
        z_offset=float(sampler.z_offset),
        rotations=tuple((name, float(min(bounds)), float(max(bounds))) for name, bounds in by_axis.items()),
        quaternion_order="wxyz" if type(sampler).__name__ == "MultiRegionRandomSampler" else "xyzw",
        keeps_apart=bool(sampler.ensure_valid_placement),
        is_inside=bool(sampler.ensure_object_boundary_in_range) and has_radius,
        radius=float(thing.horizontal_radius),
        bottom=float(thing.bottom_offset[-1]),
        top=float(thing.top_offset[-1]),
        slide_joint=slide_joint,
        slide=slide,
    )


def _joint_draws(env: Any) -> Iterable[JointDraw]:
    for sampler in env.object_property_initializers:
        thing = env.object_sites_dict.get(sampler.name) or env.get_object(sampler.name)
        low, high = sampler.joint_ranges
        yield JointDraw(joints=tuple(thing.joints), low=float(low), high=float(high))


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    build(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), is_original="original" in sys.argv[4:])
