"""Makes visual meshes small enough for software rendering; used only while a scene is built."""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

import fast_simplification
import mujoco
import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

# Shapes: V vertices, F faces (triangles), U texture coordinates.

NUM_NEIGHBOURS = 12
"""Old corners among which a new corner looks for its normal and texture coordinate."""
AGGRESSIVENESS = 5
"""Of fast-simplification, 0 to 10; less looks better and takes longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """A triangle mesh with a normal and, where textured, a texture coordinate per corner."""

    vertices: np.ndarray
    """float64 [V, 3]."""
    faces: np.ndarray
    """int32 [F, 3], rows of `vertices`."""
    normals: np.ndarray
    """float64 [F, 3, 3], of each corner of each face."""
    texture: np.ndarray | None
    """float64 [F, 3, 2]; None for meshes without texture."""
    charts: np.ndarray
    """int32 [F], which connected piece of the texture a face belongs to; zeros without texture."""


def mesh_of_model(model: mujoco.MjModel, mesh_id: int, *, has_texture: bool) -> Mesh:
    """Return a compiled mesh in the coordinates of its file (MuJoCo centres and turns meshes), scale applied."""
    rotation = np.empty(9)
    mujoco.mju_quat2Mat(rotation, model.mesh_quat[mesh_id])
    to_file = rotation.reshape(3, 3).T
    vertices = _rows(model.mesh_vert, model.mesh_vertadr[mesh_id], model.mesh_vertnum[mesh_id])
    normals = _rows(model.mesh_normal, model.mesh_normaladr[mesh_id], model.mesh_normalnum[mesh_id])
    address, count = model.mesh_faceadr[mesh_id], model.mesh_facenum[mesh_id]
    normal_faces = _rows(model.mesh_facenormal, address, count)
    texture, charts = None, np.zeros(count, np.int32)
    first = model.mesh_texcoordadr[mesh_id]
    if has_texture and first >= 0:
        coordinates = _rows(model.mesh_texcoord, first, model.mesh_texcoordnum[mesh_id])
        texture = coordinates[_rows(model.mesh_facetexcoord, address, count)].astype(np.float64)
        charts = _charts(texture)
    return Mesh(
        vertices=vertices.astype(np.float64) @ to_file + model.mesh_pos[mesh_id],
        faces=_rows(model.mesh_face, address, count),
        normals=(normals.astype(np.float64) @ to_file)[normal_faces],
        texture=texture,
        charts=charts,
    )


def _rows(array: np.ndarray, first: int, count: int) -> np.ndarray:
    return array[first : first + count].copy()


def _charts(texture: np.ndarray) -> np.ndarray:
    """Label each face by its connected piece of the texture, int32 [F]; corners at one place of the texture connect."""
    places, corner = np.unique(texture.reshape(-1, 2).round(6), axis=0, return_inverse=True)
    a, b, c = corner.reshape(-1, 3).T
    edges = (np.ones(2 * len(a)), (np.concatenate([a, b]), np.concatenate([b, c])))
    _, label = connected_components(coo_matrix(edges, shape=(len(places), len(places))), directed=False)
    return label[a]


def decimate(mesh: Mesh, *, num_faces: int) -> Mesh:
    """Return the mesh with about `num_faces` triangles: quadric edge collapse, then normals and texture carried over."""
    if len(mesh.faces) <= num_faces:
        return mesh
    vertices, faces = _weld(mesh)
    vertices, faces = fast_simplification.simplify(
        vertices.astype(np.float32), faces.astype(np.int32), target_count=num_faces, agg=AGGRESSIVENESS
    )
    vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces, np.int32)
    faces = faces[np.linalg.norm(_area_vectors(vertices[faces]), axis=1) > 0]
    return _carry_over(mesh, vertices, faces)


def decimate_once(mesh: Mesh, *, num_faces: int, folder: Path) -> Mesh:
    """Return `decimate`'s answer, kept in a folder: the robot, and much of the furniture, stands in every scene."""
    arrays = {field.name: getattr(mesh, field.name) for field in dataclasses.fields(mesh)}
    digest = hashlib.sha256(f"{num_faces} {AGGRESSIVENESS} {NUM_NEIGHBOURS}".encode())
    for name, array in arrays.items():
        digest.update(name.encode() + (b"" if array is None else np.ascontiguousarray(array).tobytes()))
    path = folder / f"{digest.hexdigest()[:32]}.npz"
    if not path.is_file():
        small = decimate(mesh, num_faces=num_faces)
        kept = {name: value for name in arrays if (value := getattr(small, name)) is not None}
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".partial", delete=False) as file:
            np.savez(file, **kept)
        Path(file.name).replace(path)
    with np.load(path, allow_pickle=False) as stored:
        return Mesh(**{name: stored.get(name) for name in arrays})


def _weld(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Join vertices at the same place, so that seams do not tear open while edges collapse."""
    places, inverse = np.unique(mesh.vertices.round(6), axis=0, return_inverse=True)
    faces = inverse.reshape(-1)[mesh.faces]
    is_proper = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    return places, faces[is_proper]


def _area_vectors(corners: np.ndarray) -> np.ndarray:
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def _directions(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-30)


def _carry_over(mesh: Mesh, vertices: np.ndarray, faces: np.ndarray) -> Mesh:
    """Give new faces the normals and texture of the old ones.

    A face takes the chart of the old face nearest to its centre, so that none spans two charts. A corner takes what the
    nearest old corner of that chart has, among those whose faces look the same way, so that edges stay sharp.
    """
    corners, old_corners = vertices[faces], mesh.vertices[mesh.faces]
    directions, old_directions = _directions(_area_vectors(corners)), _directions(_area_vectors(old_corners))
    _, nearest_face = cKDTree(old_corners.mean(axis=1)).query(corners.mean(axis=1))
    charts = mesh.charts[nearest_face]
    source = np.empty((len(faces), 3), int)  # which old corner, as a row of the flattened old corners
    for chart in np.unique(charts):
        old_rows, rows = np.flatnonzero(mesh.charts == chart), np.flatnonzero(charts == chart)
        places = old_corners[old_rows].reshape(-1, 3)
        distances, near = cKDTree(places).query(corners[rows].reshape(-1, 3), k=min(NUM_NEIGHBOURS, len(places)))
        near = near.reshape(len(near), -1)
        facing = old_directions[old_rows][near // 3]
        agreement = np.einsum("nkd,nd->nk", facing, np.repeat(directions[rows], 3, axis=0))
        size = np.linalg.norm(np.ptp(corners[rows], axis=1), axis=1).repeat(3)
        cost = distances.reshape(near.shape) + (1 - agreement) * size[:, None]
        best = near[np.arange(len(near)), cost.argmin(axis=1)]
        source[rows] = (3 * old_rows[best // 3] + best % 3).reshape(-1, 3)
    texture = None if mesh.texture is None else mesh.texture.reshape(-1, 2)[source]
    return Mesh(vertices=vertices, faces=faces, normals=mesh.normals.reshape(-1, 3)[source], texture=texture, charts=charts)
