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
DIRECTION_WEIGHT = 0.25
"""How far away a face counts that looks another way, in diagonals of the mesh for each unit between the directions."""
LARGE_SHARE, TEXTURE_TOLERANCE, MAX_SPLITS = 0.002, 0.03, 3
"""Faces of more than this share of the area, whose texture is this far off (1 is the whole image), are split so often."""
NUM_SURFACE_POINTS, MAX_PARTS = 4000, 40
"""About how many points stand for a surface, and into how many squared one face is parted at most."""


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


def decimate(mesh: Mesh, *, num_faces: int, is_sampled: bool) -> Mesh:
    """Return the mesh with about `num_faces` triangles: quadric edge collapse, then normals and texture carried over.

    `is_sampled` takes these from points all over the old surface; without it from the nearest corners, which large flat
    faces, as a table's, have only at their rim.
    """
    if len(mesh.faces) <= num_faces:
        return mesh
    vertices, faces = _weld(mesh)
    vertices, faces = fast_simplification.simplify(
        vertices.astype(np.float32), faces.astype(np.int32), target_count=num_faces, agg=AGGRESSIVENESS
    )
    vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces, np.int32)
    faces = faces[np.linalg.norm(_area_vectors(vertices[faces]), axis=1) > 0]
    if not is_sampled:
        return _carry_over_from_corners(mesh, vertices, faces)
    small = _carry_over_from_surface(mesh, vertices, faces)
    for _ in range(MAX_SPLITS):
        if mesh.texture is None or not (is_wrong := _shows_another_place(mesh, small)).any():
            break
        small = _carry_over_from_surface(mesh, *_split(small.vertices, small.faces, is_wrong))
    return small


def decimate_once(mesh: Mesh, *, num_faces: int, is_sampled: bool, folder: Path) -> Mesh:
    """Return `decimate`'s answer, kept in a folder: the robot, and much of the furniture, stands in every scene."""
    arrays = {field.name: getattr(mesh, field.name) for field in dataclasses.fields(mesh)}
    constants = [num_faces, is_sampled, AGGRESSIVENESS, NUM_NEIGHBOURS, DIRECTION_WEIGHT, NUM_SURFACE_POINTS, MAX_PARTS]
    constants += [LARGE_SHARE, TEXTURE_TOLERANCE, MAX_SPLITS]
    digest = hashlib.sha256(repr(constants).encode())
    for name, array in arrays.items():
        digest.update(name.encode() + (b"" if array is None else np.ascontiguousarray(array).tobytes()))
    path = folder / f"{digest.hexdigest()[:32]}.npz"
    if not path.is_file():
        small = decimate(mesh, num_faces=num_faces, is_sampled=is_sampled)
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


def _carry_over_from_corners(mesh: Mesh, vertices: np.ndarray, faces: np.ndarray) -> Mesh:
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


def _carry_over_from_surface(mesh: Mesh, vertices: np.ndarray, faces: np.ndarray) -> Mesh:
    """Give new faces what the old surface has where they are.

    Nearness is distance in space and, weighted, between the directions of faces, to points all over the old surface. A face
    takes the chart of the old face nearest to its centre; a corner takes what the nearest old face of that chart has there.
    """
    corners, old_corners = vertices[faces], mesh.vertices[mesh.faces]
    weight = DIRECTION_WEIGHT * float(np.linalg.norm(np.ptp(mesh.vertices, axis=0)))
    directions, old_directions = (weight * _directions(_area_vectors(each)) for each in (corners, old_corners))
    owners, points = _surface_points(old_corners)
    known = np.concatenate([points, old_directions[owners]], axis=1)
    _, nearest = cKDTree(known).query(np.concatenate([corners.mean(axis=1), directions], axis=1))
    charts = mesh.charts[owners[nearest]]
    wanted = np.concatenate([corners, np.repeat(directions[:, None], 3, axis=1)], axis=2)
    source = np.empty((len(faces), 3), int)  # which old face a corner lies on
    for chart in np.unique(charts):
        rows, samples = np.flatnonzero(charts == chart), np.flatnonzero(mesh.charts[owners] == chart)
        _, nearest = cKDTree(known[samples]).query(wanted[rows].reshape(-1, 6))
        source[rows] = owners[samples][nearest].reshape(-1, 3)
    shares = _shares_of_corners(old_corners[source], corners)
    normals = _directions(np.einsum("fck,fckd->fcd", shares, mesh.normals[source]))
    texture = None if mesh.texture is None else np.einsum("fck,fckd->fcd", shares, mesh.texture[source])
    return Mesh(vertices=vertices, faces=faces, normals=normals, texture=texture, charts=charts)


def _surface_points(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return points all over a surface, float64 [P, 3], and the face of each, int [P]; every face has one at least."""
    areas = np.linalg.norm(_area_vectors(corners), axis=1)
    num_parts = np.clip(np.ceil(np.sqrt(NUM_SURFACE_POINTS * areas / max(areas.sum(), 1e-30))), 1, MAX_PARTS).astype(int)
    owners, points = [], []
    for count in np.unique(num_parts):
        rows = np.flatnonzero(num_parts == count)
        upright = [(i + 1 / 3, j + 1 / 3) for i in range(count) for j in range(count - i)]
        flipped = [(i + 2 / 3, j + 2 / 3) for i in range(count) for j in range(count - i - 1)]
        u, v = np.array(upright + flipped).T[:, None, :, None] / count
        a, b, c = (corners[rows, corner, None] for corner in range(3))
        points.append((a + u * (b - a) + v * (c - a)).reshape(-1, 3))
        owners.append(np.repeat(rows, count * count))
    return np.concatenate(owners), np.concatenate(points)


def _shares_of_corners(triangles: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the barycentric coordinates [..., 3] of points [..., 3] on triangles [..., 3, 3], cut to the triangle."""
    origin = triangles[..., 0, :]
    first, second, point = triangles[..., 1, :] - origin, triangles[..., 2, :] - origin, points - origin
    aa, ab, bb = ((x * y).sum(axis=-1) for x, y in ((first, first), (first, second), (second, second)))
    pa, pb = (point * first).sum(axis=-1), (point * second).sum(axis=-1)
    determinant = np.maximum(aa * bb - ab * ab, 1e-30)
    u, v = (bb * pa - ab * pb) / determinant, (aa * pb - ab * pa) / determinant
    shares = np.clip(np.stack([1 - u - v, u, v], axis=-1), 0.0, 1.0)
    return shares / np.maximum(shares.sum(axis=-1, keepdims=True), 1e-30)


def _shows_another_place(mesh: Mesh, small: Mesh) -> np.ndarray:
    """Return which large faces show, at one point in four or more, another part of the texture than the old surface, bool [F].

    They lie over a seam of the texture, which flat surfaces have in their middle.
    """
    assert mesh.texture is not None
    assert small.texture is not None
    corners, old_corners = small.vertices[small.faces], mesh.vertices[mesh.faces]
    areas = np.linalg.norm(_area_vectors(corners), axis=1)
    rows = np.flatnonzero(areas > LARGE_SHARE * areas.sum())
    if not len(rows):
        return np.zeros(len(small.faces), bool)
    inside = np.array([(i, j, 6 - i - j) for i in range(1, 6) for j in range(1, 6 - i)]) / 6  # ten points of a face
    places, shown = (np.einsum("pk,fkd->fpd", inside, each[rows]) for each in (corners, small.texture))
    weight = DIRECTION_WEIGHT * float(np.linalg.norm(np.ptp(mesh.vertices, axis=0)))
    directions, old_directions = (weight * _directions(_area_vectors(each)) for each in (corners[rows], old_corners))
    owners, points = _surface_points(old_corners)
    wanted = np.concatenate([places, np.repeat(directions[:, None], len(inside), axis=1)], axis=2)
    _, nearest = cKDTree(np.concatenate([points, old_directions[owners]], axis=1)).query(wanted.reshape(-1, 6))
    source = owners[nearest].reshape(places.shape[:2])
    shares = _shares_of_corners(old_corners[source], places)
    expected = np.einsum("fpk,fpkd->fpd", shares, mesh.texture[source])
    is_wrong = np.zeros(len(small.faces), bool)
    is_wrong[rows] = (np.linalg.norm(shown - expected, axis=2) > TEXTURE_TOLERANCE).mean(axis=1) >= 0.25
    return is_wrong


def _split(vertices: np.ndarray, faces: np.ndarray, is_split: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the surface with some faces parted into four at the middles of their edges."""
    corners = vertices[faces[is_split]]
    middles = (corners + corners[:, [1, 2, 0]]) / 2
    first = len(vertices) + 3 * np.arange(len(corners))
    (a, b, c), (ab, bc, ca) = faces[is_split].T, (first, first + 1, first + 2)
    parts = [np.stack(each, axis=1) for each in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
    return np.concatenate([vertices, middles.reshape(-1, 3)]), np.concatenate([faces[~is_split], *parts]).astype(np.int32)
