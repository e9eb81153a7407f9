"""Cameras: frames through PyAV from FFmpeg's test source, emulated ones from the emulator, and what unplugging does."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from PIL import Image

from opentau.errors import RobotError
from robot_bridge.robots.cameras import Camera, EmulatedCamera
from robot_bridge.robots.emulator_control import ControlServer
from robot_bridge.robots.picture import compare_pictures, write_side_by_side
from robot_bridge.robots.usb_camera import UsbCamera, _fix_exposure

SIZE = {"width": 64, "height": 48}


def test_frames_come_through_pyav_at_the_size_asked_for_and_turned_upright():
    upright = UsbCamera(device="testsrc=size=64x48:rate=30", driver="lavfi", **SIZE)
    turned = UsbCamera(device="testsrc=size=64x48:rate=30", driver="lavfi", rotate=90, **SIZE)
    for source in (upright, turned):
        source.open()
    (picture, exposed), (other, _) = upright.read(), turned.read()
    assert (picture.shape, picture.dtype, upright.shape) == ((48, 64, 3), np.uint8, (48, 64, 3))
    assert turned.shape == (64, 48, 3)
    assert np.array_equal(other, np.rot90(picture))
    assert abs(time.monotonic() - exposed) < 1
    for source in (upright, turned):
        source.close()


def test_a_camera_that_is_missing_or_of_another_size_says_so_with_the_fix(tmp_path):
    with pytest.raises(RobotError, match=r"cannot be opened at .*plug it in"):
        UsbCamera(device=str(tmp_path / "video9")).open()
    other = UsbCamera(device="testsrc=size=32x32:rate=30", driver="lavfi", **SIZE)
    other.open()
    with pytest.raises(RobotError, match="gives 32x32, asked for 64x48"):
        other.read()
    with pytest.raises(RobotError, match="it must be 0, 90, 180 or 270"):
        UsbCamera(device="0", rotate=45)


def test_the_end_of_the_pictures_is_an_error_that_asks_for_the_plug():
    source = UsbCamera(device="testsrc=size=64x48:rate=30:duration=0.04", driver="lavfi", **SIZE)
    source.open()
    with pytest.raises(RobotError, match=r"is gone .*plug it in again"):
        for _ in range(5):
            source.read()


class PullablePicture:
    """A frame source whose cable a test pulls and plugs."""

    shape, rate_hz = (4, 6, 3), 100.0

    def __init__(self):
        self.is_plugged = threading.Event()
        self.is_plugged.set()
        self.num_opened = 0

    def open(self):
        if not self.is_plugged.is_set():
            raise RobotError("camera x cannot be opened")
        self.num_opened += 1

    def read(self):
        time.sleep(0.01)
        if not self.is_plugged.is_set():
            raise RobotError("camera x is gone")
        return np.zeros(self.shape, np.uint8), time.monotonic()

    def close(self):
        pass


def test_an_unplugged_camera_ages_then_fails_and_comes_back_by_itself():
    source = PullablePicture()
    camera = Camera("wrist", source, max_age_s=0.3)
    camera.start()
    assert camera.latest()[1] < 0.3
    source.is_plugged.clear()
    deadline = time.monotonic() + 5
    with pytest.raises(RobotError, match=r"camera 'wrist' gave no picture for 0\.\d s"):
        while time.monotonic() < deadline:
            camera.latest()
            time.sleep(0.01)
    source.is_plugged.set()
    while time.monotonic() < deadline:
        try:
            camera.latest()
            break
        except RobotError:
            time.sleep(0.02)
    assert camera.latest()[1] < 0.3
    assert source.num_opened == 2
    camera.close()


def test_a_camera_that_goes_while_its_exposure_is_set_is_gone_in_words(tmp_path):
    with pytest.raises(RobotError, match=r"video9 is gone \(No such file or directory\); plug it in again"):
        _fix_exposure(str(tmp_path / "video9"), 10.0)


def test_a_camera_that_never_gives_a_picture_is_an_error_when_starting():
    source = PullablePicture()
    source.is_plugged.clear()
    with pytest.raises(RobotError, match=r"gave no picture within 0\.2 s: camera x cannot be opened"):
        Camera("wrist", source).start(timeout_s=0.2)


def test_an_emulated_camera_shows_what_the_plant_renders_at_its_rate(emulated):
    emulator = emulated()
    with ControlServer(emulator) as server:
        serving = threading.Thread(target=server.serve, daemon=True)
        serving.start()
        camera = Camera("front", EmulatedCamera(control=server.endpoint, camera="front", rate_hz=50, **SIZE), max_age_s=2.0)
        camera.start()
        before, started = camera.num_frames, time.monotonic()
        time.sleep(0.6)
        rate = (camera.num_frames - before) / (time.monotonic() - started)
        picture, age = camera.latest()
        camera.close()
        server.stop()
        serving.join()
    assert 10 < rate < 60
    assert age < 1
    assert np.array_equal(picture, emulator.on_plant(lambda plant: plant.render("front", (64, 48))))


@pytest.fixture
def scene():
    """A picture with structure: smooth shapes of several colours, 240 rows."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 200, (6, 8, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC))


def test_the_same_view_passes_the_picture_check_in_another_size_and_with_sensor_noise(scene):
    noisy = np.clip(scene + np.random.default_rng(1).normal(0, 8, scene.shape), 0, 255).astype(np.uint8)
    small = np.asarray(Image.fromarray(noisy).resize((160, 120)))
    compared = compare_pictures(small, [255 - scene, scene])
    assert compared.problems == ()
    assert compared.structure > 0.95


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda scene: np.clip(scene.astype(int) + 60, 0, 255).astype(np.uint8), "60 grey levels brighter"),
        (lambda scene: scene // 4, "darker than the dataset"),
        (lambda scene: np.ascontiguousarray(scene[::-1, ::-1]), "move the camera to where it was"),
        (lambda scene: (scene * [1.3, 1.0, 0.2]).clip(0, 255).astype(np.uint8), "its colours differ by"),
    ],
)
def test_another_light_view_or_colour_fails_with_the_fix(scene, change, problem):
    assert any(problem in text for text in compare_pictures(change(scene), [scene]).problems)


def test_both_pictures_are_written_beside_each_other(scene, tmp_path):
    write_side_by_side(tmp_path / "pair.png", scene, scene[::2, ::2])
    assert Image.open(tmp_path / "pair.png").size == (640, 240)
