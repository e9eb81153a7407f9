"""Rendering: right way up, in fresh arrays, in several contexts at once, and without the system's OpenGL."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest

from envs import opengl
from envs.rendering import Renderer, describe_backend

ROOT = Path(__file__).resolve().parents[3]
TWO_BALLS = """
<mujoco><worldbody>
  <light pos="0 -2 1"/>
  <geom type="sphere" size="0.1" rgba="1 0 0 1" pos="0.2 0 0.2"/>
  <geom type="sphere" size="0.1" rgba="0 0 1 1" pos="-0.2 0 -0.2"/>
  <geom type="sphere" size="0.5" rgba="0 1 0 1" pos="0 0.6 0" group="3"/>
  <site type="sphere" size="0.1" rgba="0 1 0 1" pos="0 0 0"/>
  <camera name="front" pos="0 -1 0" xyaxes="1 0 0 0 0 1"/>
  <camera name="back" pos="0 1 0" xyaxes="-1 0 0 0 0 1"/>
</worldbody></mujoco>
"""


@pytest.fixture
def scene() -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = mujoco.MjModel.from_xml_string(TWO_BALLS)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def _renderer(model: mujoco.MjModel, **options) -> Renderer:
    cameras = {"main": "front", "other": "back"}
    return Renderer(model, **({"cameras": cameras, "height": 40, "width": 60, "hidden_geom_groups": (3,)} | options))


def _is_red(pixel: np.ndarray) -> bool:
    return bool(pixel[0] > 60 and pixel[0] > 2 * max(pixel[1], pixel[2]))


def _is_blue(pixel: np.ndarray) -> bool:
    return bool(pixel[2] > 60 and pixel[2] > 2 * max(pixel[0], pixel[1]))


def test_images_are_upright_rgb_seen_from_each_camera(scene):
    model, data = scene
    with _renderer(model) as renderer:
        images = renderer.render(data)
    assert {name: (image.shape, image.dtype) for name, image in images.items()} == {
        "main": ((40, 60, 3), np.uint8),
        "other": ((40, 60, 3), np.uint8),
    }
    assert _is_red(images["main"][10, 40])
    assert _is_blue(images["main"][30, 20])
    assert _is_red(images["other"][10, 20])
    assert _is_blue(images["other"][30, 40])


def test_hidden_groups_and_sites_are_not_drawn(scene):
    model, data = scene
    with _renderer(model) as hiding, _renderer(model, hidden_geom_groups=(), shows_sites=True) as showing:
        centre = (20, 30)
        assert hiding.render(data)["main"][centre].max() < 60
        assert showing.render(data)["main"][centre].argmax() == 1


def test_segments_name_the_geom_behind_every_pixel_and_leave_the_pictures_as_they_are(scene):
    model, data = scene
    with _renderer(model, shows_sites=True) as renderer:
        before = renderer.render(data)
        geoms = renderer.segment(data)
        after = renderer.render(data)
    assert all(np.array_equal(before[camera], after[camera]) for camera in before)
    red, blue, hidden = range(3)
    assert geoms["main"][10, 40] == geoms["other"][10, 20] == red
    assert geoms["main"][30, 20] == geoms["other"][30, 40] == blue
    assert geoms["main"][0, 0] == -1
    assert hidden not in geoms["main"]
    assert {(image.shape, image.dtype) for image in geoms.values()} == {((40, 60), np.dtype(np.int32))}
    is_red = np.array([[_is_red(pixel) for pixel in row] for row in before["main"]])
    assert (geoms["main"][is_red] == red).all()


def test_frames_are_fresh_arrays_and_repeat_exactly(scene):
    model, data = scene
    with _renderer(model) as renderer:
        first, second = renderer.render(data), renderer.render(data)
        for name in first:
            assert not np.shares_memory(first[name], second[name])
            np.testing.assert_array_equal(first[name], second[name])
            assert first[name].flags.c_contiguous


def test_each_camera_looks_the_same_alone_and_in_company(scene):
    model, data = scene
    with _renderer(model) as both, _renderer(model, cameras={"other": "back"}) as alone:
        np.testing.assert_array_equal(both.render(data)["other"], alone.render(data)["other"])


def test_closing_one_renderer_leaves_the_others_intact(scene):
    model, data = scene
    kept, closed = _renderer(model), _renderer(model)
    before = kept.render(data)["main"]
    closed.close()
    closed.close()
    np.testing.assert_array_equal(kept.render(data)["main"], before)
    with pytest.raises(RuntimeError, match="was closed"):
        closed.render(data)
    kept.close()


def test_an_unknown_camera_is_named_with_those_that_exist(scene):
    with pytest.raises(ValueError, match="no camera 'top'; use one of: front, back"):
        _renderer(scene[0], cameras={"main": "top"})


def test_the_description_names_the_backend_the_driver_and_the_reason():
    description = describe_backend()
    assert description.name in opengl.BACKENDS
    assert description.gl_version[0].isdigit()
    assert description.reason
    assert description.id == f"{description.name}: {description.gl_version}, {description.gl_renderer}"


def test_the_wheel_draws_the_same_picture(scene, monkeypatch):
    """In a process of its own: one process keeps to one kind of context."""
    program = (
        "import json, mujoco\nfrom envs.rendering import *\n"
        f"model = mujoco.MjModel.from_xml_string({TWO_BALLS!r})\n"
        "data = mujoco.MjData(model)\nmujoco.mj_forward(model, data)\n"
        "cameras = {'main': 'front', 'other': 'back'}\n"
        "r = Renderer(model, cameras=cameras, height=40, width=60, hidden_geom_groups=(3,))\n"
        "print(json.dumps([describe_backend().name, r.render(data)['main'].tolist()]))"
    )
    monkeypatch.setenv("OPENTAU_GL", "osmesa-wheel")
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    name, pixels = json.loads(run.stdout)
    assert name == "osmesa-wheel"
    model, data = scene
    with _renderer(model) as renderer:
        here = renderer.render(data)["main"]
    assert np.abs(np.array(pixels) - here).mean() < 2


def test_an_unknown_backend_is_refused(monkeypatch):
    monkeypatch.setenv("OPENTAU_GL", "vulkan")
    with pytest.raises(RuntimeError, match="OPENTAU_GL=vulkan is unknown; use one of egl, osmesa, osmesa-wheel"):
        describe_backend.__wrapped__()


def test_a_program_that_closes_nothing_ends_cleanly():
    program = (
        "import mujoco\nfrom envs.rendering import Renderer\n"
        f"model = mujoco.MjModel.from_xml_string({TWO_BALLS!r})\n"
        "kept = [Renderer(model, cameras={'main': 'front'}, height=8, width=8) for _ in range(3)]\n"
        "data = mujoco.MjData(model)\nmujoco.mj_forward(model, data)\n[r.render(data) for r in kept]"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
