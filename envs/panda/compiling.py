"""Compiles a stock scene again with few triangles and small textures; used only while a scene is built."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from PIL import Image

from envs.panda.meshes import Mesh, decimate_once, mesh_of_model
from envs.panda.scene import Scene

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


def lean_model(
    xml: str, stock: mujoco.MjModel, folder: Path, *, mesh_folder: Path | None, is_sampled: bool = True
) -> mujoco.MjModel:
    """Compile the stock scene again with few triangles and small textures; physics stays what it was.

    Small meshes are kept in `mesh_folder`, where scenes share them; `is_sampled`: they take normals and texture from points on
    the surface instead of the nearest corners. Without such a folder everything that is drawn stays as it is.
    """
    spec = mujoco.MjSpec.from_string(xml)
    # Without this MuJoCo 3.3 gives visual meshes a mass.
    spec.compiler.inertiagrouprange = [COLLISION_GROUP, COLLISION_GROUP]
    solid, textured = _meshes_of_group(stock, COLLISION_GROUP), _textured_meshes(stock)
    drawn = _meshes_of_group(stock, VISUAL_GROUP) - solid
    for target in list(spec.meshes):
        mesh_id = mujoco.mj_name2id(stock, mujoco.mjtObj.mjOBJ_MESH, target.name)
        if mesh_id not in drawn | solid:
            target.delete()  # other arenas' walls
        elif mesh_id in drawn and mesh_folder is not None:
            _shrink_mesh(target, mesh_of_model(stock, mesh_id, has_texture=mesh_id in textured), mesh_folder, is_sampled)
    textures = _shrink_textures(spec, stock, folder, largest=None if mesh_folder is None else TEXTURE_PIXELS)
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


def _shrink_mesh(target: Any, mesh: Mesh, mesh_folder: Path, is_sampled: bool) -> None:
    diagonal_m = float(np.linalg.norm(np.ptp(mesh.vertices, axis=0)))
    num_faces = int(np.clip(FACES_PER_METRE * diagonal_m, MIN_FACES, MAX_FACES))
    if len(mesh.faces) <= num_faces:
        return
    mesh = decimate_once(mesh, num_faces=num_faces, is_sampled=is_sampled, folder=mesh_folder)
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


def _shrink_textures(spec: mujoco.MjSpec, stock: mujoco.MjModel, folder: Path, *, largest: int | None) -> list[Path]:
    """Point textures above the largest side at small files; those that nothing drawn uses become a few pixels."""
    used_materials = set(stock.geom_matid[stock.geom_group == VISUAL_GROUP].tolist()) - {-1}
    used = {texture for material in used_materials for texture in stock.mat_texid[material].tolist()}
    files = []
    for texture in spec.textures:
        texture_id = mujoco.mj_name2id(stock, mujoco.mjtObj.mjOBJ_TEXTURE, texture.name) if texture.name else -1
        if texture_id < 0 or not texture.file:
            continue
        side = largest if texture_id in used else UNUSED_TEXTURE_PIXELS
        if side is None:
            continue
        with Image.open(texture.file) as image:
            if max(image.size) <= side:
                continue
            path = folder / f"texture-{texture_id}.png"
            image.convert("RGB").resize((side, side), Image.Resampling.BOX).save(path)
        texture.file = str(path)
        files.append(path)
    return files


def require_same_physics(model: mujoco.MjModel, stock: mujoco.MjModel) -> None:
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


def content_hash(model: mujoco.MjModel, initial_states: np.ndarray, scene: Scene) -> str:
    """Return a sha256 that does not depend on where the packages are installed, as the model's file paths do."""
    digest = hashlib.sha256(scene.to_json().encode() + initial_states.tobytes())
    for name in sorted(name for name in dir(model) if not name.startswith("_") and not name.endswith("_pathadr")):
        value = getattr(model, name)
        if isinstance(value, np.ndarray):
            digest.update(name.encode() + np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def floats(values: Iterable[float]) -> tuple[float, ...]:
    """Return plain floats of numbers of any kind."""
    return tuple(float(value) for value in values)


def pair(values: Iterable[float]) -> tuple[float, float]:
    """Return two plain floats; ValueError where there are not two."""
    first, second = values
    return float(first), float(second)


def point(values: Iterable[float]) -> tuple[float, float, float]:
    """Return three plain floats; ValueError where there are not three."""
    x, y, z = values
    return float(x), float(y), float(z)
