"""Compiles the scene of one task from stock LIBERO; run as a program, in a process of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
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
from PIL import Image

from envs.libero.joints import joint_conditions, slide_of
from envs.libero.manifest import require_listed, scene_files
from envs.libero.meshes import Mesh, decimate_once, mesh_of_model
from envs.libero.predicates import compile_goal
from envs.libero.scene import MODEL_FILE, SCENE_FILE, STATES_FILE, JointDraw, Placement, Scene, mesh_folder
from envs.libero.stock import StockTask, make_stock_env, open_stock_task
from envs.libero.suites import SUITES

# Stock objects carry no type annotations; `Any` stands for them.

FACES_PER_METRE = 2500
"""Triangles a decimated mesh keeps per metre of its diagonal, within the two bounds below."""
MIN_FACES = 40
MAX_FACES = 500
TEXTURE_PIXELS = 512
"""Largest side of a texture."""
UNUSED_TEXTURE_PIXELS = 8
PHYSICS_TOLERANCE = 1e-9

VISUAL_GROUP = 1
COLLISION_GROUP = 0


def build(suite: str, task_id: int, folder: Path) -> None:
    """Write model, initial states and description of a task into an existing folder."""
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
    _report("decimating meshes", 0.4)
    model = _lean_model(env.model.get_xml(), stock, folder, scene_version=SUITES[suite].scene_version)
    for name in env.fixtures_dict:  # stock has drawn their places already
        body = env.obj_body_id[name]
        model.body_pos[body], model.body_quat[body] = stock.body_pos[body], stock.body_quat[body]
    _require_same_physics(model, stock)
    _report("writing the scene", 0.95)
    mujoco.mj_saveModel(model, str(folder / MODEL_FILE))
    np.save(folder / STATES_FILE, np.asarray(task.initial_states, np.float64))
    scene = _describe(task, env)
    compile_goal(model, scene)  # raises where the goal says something that is not known
    scene = dataclasses.replace(scene, content_hash=_content_hash(model, task.initial_states, scene))
    (folder / SCENE_FILE).write_text(scene.to_json())


def _content_hash(model: mujoco.MjModel, initial_states: np.ndarray, scene: Scene) -> str:
    """Return a sha256 that does not depend on where the packages are installed, as the model's file paths do."""
    digest = hashlib.sha256(scene.to_json().encode() + initial_states.tobytes())
    for name in sorted(name for name in dir(model) if not name.startswith("_") and not name.endswith("_pathadr")):
        value = getattr(model, name)
        if isinstance(value, np.ndarray):
            digest.update(name.encode() + np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def _report(step: str, fraction: float) -> None:
    print(json.dumps({"step": step, "fraction": fraction}), flush=True)


def _lean_model(xml: str, stock: mujoco.MjModel, folder: Path, *, scene_version: int) -> mujoco.MjModel:
    """Compile the stock scene again with few triangles and small textures; physics stays what it was."""
    spec = mujoco.MjSpec.from_string(xml)
    # Without this MuJoCo 3.3 gives visual meshes a mass.
    spec.compiler.inertiagrouprange = [COLLISION_GROUP, COLLISION_GROUP]
    solid, textured = _meshes_of_group(stock, COLLISION_GROUP), _textured_meshes(stock)
    drawn = _meshes_of_group(stock, VISUAL_GROUP) - solid
    for target in list(spec.meshes):
        mesh_id = mujoco.mj_name2id(stock, mujoco.mjtObj.mjOBJ_MESH, target.name)
        if mesh_id not in drawn | solid:
            target.delete()  # other arenas' walls
        elif mesh_id in drawn:
            _shrink_mesh(target, mesh_of_model(stock, mesh_id, has_texture=mesh_id in textured), scene_version)
    textures = _shrink_textures(spec, stock, folder)
    model = spec.compile()
    for path in textures:
        path.unlink()
    model.site_rgba[:] = stock.site_rgba
    return model


def _meshes_of_group(model: mujoco.MjModel, group: int) -> set[int]:
    is_mesh = (model.geom_type == mujoco.mjtGeom.mjGEOM_MESH) & (model.geom_group == group)
    return set(model.geom_dataid[is_mesh].tolist())


def _textured_meshes(model: mujoco.MjModel) -> set[int]:
    has_material = (model.geom_type == mujoco.mjtGeom.mjGEOM_MESH) & (model.geom_matid >= 0)
    is_textured = (model.mat_texid[model.geom_matid] >= 0).any(axis=1)
    return set(model.geom_dataid[has_material & is_textured].tolist())


def _shrink_mesh(target: Any, mesh: Mesh, scene_version: int) -> None:
    diagonal_m = float(np.linalg.norm(np.ptp(mesh.vertices, axis=0)))
    num_faces = int(np.clip(FACES_PER_METRE * diagonal_m, MIN_FACES, MAX_FACES))
    if len(mesh.faces) <= num_faces:
        return
    is_sampled = scene_version > 1
    mesh = decimate_once(mesh, num_faces=num_faces, is_sampled=is_sampled, folder=mesh_folder(scene_version))
    target.file = ""
    target.scale, target.refpos, target.refquat = [1, 1, 1], [0, 0, 0], [1, 0, 0, 0]
    target.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
    # A vertex per corner, because MuJoCo takes one normal and one texture coordinate per vertex.
    target.uservert = _flat(mesh.vertices[mesh.faces])
    target.userface = list(range(mesh.faces.size))
    target.usernormal = _flat(mesh.normals)
    if mesh.texture is not None:
        target.usertexcoord = _flat(mesh.texture)


def _flat(array: np.ndarray) -> list[float]:
    return array.astype(np.float32).ravel().tolist()


def _shrink_textures(spec: mujoco.MjSpec, stock: mujoco.MjModel, folder: Path) -> list[Path]:
    """Point large textures at small files; those that nothing drawn uses become a few pixels."""
    used_materials = set(stock.geom_matid[stock.geom_group == VISUAL_GROUP].tolist()) - {-1}
    used = {texture for material in used_materials for texture in stock.mat_texid[material].tolist()}
    files = []
    for texture in spec.textures:
        texture_id = mujoco.mj_name2id(stock, mujoco.mjtObj.mjOBJ_TEXTURE, texture.name) if texture.name else -1
        if texture_id < 0 or not texture.file:
            continue
        side = TEXTURE_PIXELS if texture_id in used else UNUSED_TEXTURE_PIXELS
        with Image.open(texture.file) as image:
            if max(image.size) <= side:
                continue
            path = folder / f"texture-{texture_id}.png"
            image.convert("RGB").resize((side, side), Image.Resampling.BOX).save(path)
        texture.file = str(path)
        files.append(path)
    return files


def _require_same_physics(model: mujoco.MjModel, stock: mujoco.MjModel) -> None:
    """Raise RuntimeError unless everything that moves or touches is as in the stock model."""
    is_solid = (stock.geom_contype | stock.geom_conaffinity) > 0
    for name in ("nq", "nv", "nu", "nbody", "ngeom", "nsite", "njnt", "nsensor"):
        if getattr(model, name) != getattr(stock, name):
            raise RuntimeError(f"the lean scene has another {name} than the stock scene")
    for name in ("body_mass", "body_inertia", "body_pos", "body_quat", "dof_damping", "dof_armature", "actuator_gainprm"):
        _require_close(name, getattr(model, name), getattr(stock, name))
    for name in ("geom_pos", "geom_quat", "geom_size", "geom_friction", "geom_solref", "geom_solimp", "geom_margin"):
        _require_close(name, getattr(model, name)[is_solid], getattr(stock, name)[is_solid])


def _require_close(name: str, lean: np.ndarray, stock: np.ndarray) -> None:
    difference = float(np.abs(lean - stock).max(initial=0.0))
    if difference > PHYSICS_TOLERANCE:
        raise RuntimeError(f"{name} of the lean scene differs from the stock scene by {difference:.3g}; physics must be equal")


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
        site_sizes={name: _point(site.size) for name, site in sites.items()},
        site_parents={name: site.parent_name or "" for name, site in sites.items()},
        fixtures=tuple(fixtures),
        placements=tuple(_placements(env)),
        joint_draws=tuple(_joint_draws(env)),
        arm_joints_at_rest=_floats(robot.init_qpos),
        gripper_joints_at_rest=_floats(robot.gripper.init_qpos),
        content_hash="",
        joint_conditions=joint_conditions(env),
        lamps=dict(_lamps(env)),
    )


def _lamps(env: Any) -> Iterable[tuple[str, str]]:
    """Return the sites that LIBERO shows while a fixture is on, with the fixture."""
    for name in env.visualization_sites_list:
        for site, _ in env.get_object(name).object_properties["vis_site_names"].values():
            yield site, name


def _floats(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _pair(values: Iterable[float]) -> tuple[float, float]:
    first, second = values
    return float(first), float(second)


def _point(values: Iterable[float]) -> tuple[float, float, float]:
    x, y, z = values
    return float(x), float(y), float(z)


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
        x_ranges=tuple(_pair(bounds) for bounds in sampler.x_ranges),
        y_ranges=tuple(_pair(bounds) for bounds in sampler.y_ranges),
        origin=_point(origin),
        turned_origin=_point(turned_origin),
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
    build(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
