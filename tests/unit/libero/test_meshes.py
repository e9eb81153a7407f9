"""Decimation keeps the shape, the normals' directions and the texture in place."""

from __future__ import annotations

import dataclasses

import mujoco
import numpy as np
import pytest

from envs.panda import meshes
from envs.panda.meshes import Mesh, decimate, decimate_once, mesh_of_model

SIDE = 24


def _textured_cube() -> Mesh:
    """A cube of half size 1, every side a fine grid with a chart of its own: u, v follow the side's two coordinates."""
    grid = np.linspace(-1, 1, SIDE + 1)
    vertices, faces, normals, texture, charts = [], [], [], [], []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            across, up = (axis + 1) % 3, (axis + 2) % 3
            chart = len(charts)
            for i in range(SIDE):
                for j in range(SIDE):
                    corners = [(grid[i + a], grid[j + b]) for a, b in ((0, 0), (1, 0), (1, 1), (0, 1))]
                    order = ((0, 1, 2), (0, 2, 3)) if sign > 0 else ((0, 2, 1), (0, 3, 2))
                    for triangle in order:
                        faces.append(np.arange(3) + len(vertices))
                        for corner in triangle:
                            place = np.zeros(3)
                            place[axis], place[across], place[up] = sign, *corners[corner]
                            vertices.append(place)
                        texture.append([_on_chart(chart, *corners[corner]) for corner in triangle])
                        normals.append(np.tile(sign * np.eye(3)[axis], (3, 1)))
            charts.append(chart)
    faces = np.array(faces, np.int32)
    return Mesh(
        vertices=np.array(vertices),
        faces=faces,
        normals=np.array(normals),
        texture=np.array(texture),
        charts=np.repeat(np.array(charts, np.int32), len(faces) // 6),
    )


def _on_chart(chart: int, u: float, v: float) -> tuple[float, float]:
    return (chart + (u + 1) / 2 * 0.9) / 6, (v + 1) / 2


@pytest.fixture(scope="module")
def cube() -> Mesh:
    return _textured_cube()


@pytest.fixture(scope="module", params=[False, True])
def small(cube, request) -> Mesh:
    return decimate(cube, num_faces=200, is_sampled=request.param)


def test_a_mesh_that_is_small_enough_is_left_alone(cube):
    assert decimate(cube, num_faces=len(cube.faces), is_sampled=True) is cube


def test_few_triangles_keep_the_shape(cube, small):
    assert len(cube.faces) == 6 * 2 * SIDE**2
    assert 50 <= len(small.faces) <= 220
    corners = small.vertices[small.faces]
    np.testing.assert_allclose(np.abs(corners.mean(axis=1)).max(axis=1), 1.0, atol=0.02)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum() / 2
    assert area == pytest.approx(24, rel=0.02)


def test_normals_stay_those_of_the_side(small):
    corners = small.vertices[small.faces]
    facing = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    facing /= np.linalg.norm(facing, axis=1, keepdims=True)
    agreement = np.einsum("fcd,fd->fc", small.normals, facing)
    assert agreement.min() > 0.9


def test_texture_stays_where_it_was(small):
    corners = small.vertices[small.faces]
    for face, chart in enumerate(small.charts):
        axis = chart // 2
        for corner in range(3):
            place = corners[face, corner]
            expected = _on_chart(chart, place[(axis + 1) % 3], place[(axis + 2) % 3])
            np.testing.assert_allclose(small.texture[face, corner], expected, atol=0.06)


def test_a_large_flat_face_keeps_its_texture_far_from_its_corners():
    """A table top of two triangles over a fine dark grid that looks up as well, a little below its middle."""
    grid = np.linspace(-0.4, 0.4, SIDE + 1)
    below = [[[x, y, -0.05], [x + 0.03, y, -0.05], [x, y + 0.03, -0.05]] for x in grid for y in grid]
    top = [[[-1, -1, 0], [1, -1, 0], [1, 1, 0]], [[-1, -1, 0], [1, 1, 0], [-1, 1, 0]]]
    corners = np.array([*top, *below], np.float64)
    texture = corners[:, :, :2].copy()
    texture[2:] += 10
    table = Mesh(
        vertices=corners.reshape(-1, 3),
        faces=np.arange(3 * len(corners), dtype=np.int32).reshape(-1, 3),
        normals=np.broadcast_to([0.0, 0.0, 1.0], corners.shape).copy(),
        texture=texture,
        charts=(np.arange(len(corners)) >= 2).astype(np.int32),
    )
    tile = np.array([[[-0.1, -0.1, 0], [0.1, -0.1, 0], [0, 0.1, 0.0]]])
    small = meshes._carry_over_from_surface(table, tile.reshape(-1, 3), np.array([[0, 1, 2]]))
    np.testing.assert_allclose(small.texture, tile[:, :, :2], atol=1e-6)
    np.testing.assert_allclose(small.normals, np.broadcast_to([0.0, 0.0, 1.0], (1, 3, 3)), atol=1e-12)
    assert (meshes._carry_over_from_corners(table, tile.reshape(-1, 3), np.array([[0, 1, 2]])).texture > 5).all()


def test_a_face_over_a_seam_of_the_texture_is_split_until_it_shows_both_sides(monkeypatch):
    """A flat sheet whose two halves lie at two places of the texture; few faces span it."""
    steps = np.linspace(0, 1, SIDE + 1)
    squares = [(x, y, steps[1]) for x in steps[:-1] for y in steps[:-1]]
    corners = np.array(
        [[[x + dx * s, y + dy * s, 0] for dx, dy in way] for x, y, s in squares
         for way in (((0, 0), (1, 0), (1, 1)), ((0, 0), (1, 1), (0, 1)))]
    )  # fmt: skip
    is_right = corners.mean(axis=1)[:, 0] > 0.5
    texture = corners[:, :, :2] * [0.4, 0.4] + np.where(is_right[:, None, None], [0.6, 0.6], [0.0, 0.0])
    sheet = Mesh(
        vertices=corners.reshape(-1, 3),
        faces=np.arange(3 * len(corners), dtype=np.int32).reshape(-1, 3),
        normals=np.broadcast_to([0.0, 0.0, 1.0], corners.shape).copy(),
        texture=texture,
        charts=is_right.astype(np.int32),
    )
    small = decimate(sheet, num_faces=40, is_sampled=True)
    assert 40 < len(small.faces) < len(sheet.faces)
    monkeypatch.setattr(meshes, "MAX_SPLITS", 0)
    assert _share_over_the_seam(small) < 0.75 * _share_over_the_seam(decimate(sheet, num_faces=40, is_sampled=True))


def _share_over_the_seam(sheet: Mesh) -> float:
    """Return the share of the area that faces have which reach far to both sides of the middle."""
    corners = sheet.vertices[sheet.faces]
    areas = np.linalg.norm(meshes._area_vectors(corners), axis=1)
    is_over = (corners[:, :, 0].min(axis=1) < 0.48) & (corners[:, :, 0].max(axis=1) > 0.52)
    return float(areas[is_over].sum() / areas.sum())


def test_a_compiled_mesh_comes_back_in_the_coordinates_of_its_file():
    vertices = np.array([[0.3, 0, 0], [1.3, 0, 0], [0.3, 2, 0], [0.3, 0, 3]])
    normals = np.array([[-0.6, -0.8, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    spec = mujoco.MjSpec()
    mesh = spec.add_mesh(name="corner", scale=[2, 2, 2])
    mesh.uservert, mesh.usernormal = vertices.ravel().tolist(), normals.ravel().tolist()
    mesh.userface = [0, 2, 1, 0, 1, 3, 0, 3, 2, 1, 2, 3]
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname="corner")
    read = mesh_of_model(spec.compile(), 0, has_texture=False)
    np.testing.assert_allclose(read.vertices, 2 * vertices, atol=1e-5)
    np.testing.assert_allclose(read.normals, normals[read.faces], atol=1e-5)


def test_a_mesh_is_made_small_once_and_read_back_bit_for_bit(cube, tmp_path, monkeypatch):
    first = decimate_once(cube, num_faces=200, is_sampled=True, folder=tmp_path / "meshes")
    plain = dataclasses.replace(cube, texture=None)
    untextured = decimate_once(plain, num_faces=200, is_sampled=True, folder=tmp_path / "meshes")
    monkeypatch.setattr(meshes, "decimate", lambda mesh, **options: pytest.fail("it was made again"))
    again = decimate_once(cube, num_faces=200, is_sampled=True, folder=tmp_path / "meshes")
    fresh = decimate(cube, num_faces=200, is_sampled=True)
    for field in dataclasses.fields(Mesh):
        one, other, third = (getattr(each, field.name) for each in (first, again, fresh))
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)
        assert np.array_equal(one, third)
    assert untextured.texture is None
    assert len(list((tmp_path / "meshes").iterdir())) == 2
