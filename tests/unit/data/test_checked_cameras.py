"""What is wrong with pictures is found: frozen, black and exchanged cameras, and images that cannot be decoded."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from opentau.data.lerobot import layout
from opentau.data.tools.findings import Severity
from tests.unit.data import foreign, recordings
from tests.unit.data.recordings import findings_of, only

WRIST = "observation.images.wrist"


def test_a_camera_that_freezes_while_the_arm_moves_is_named(filmed):
    def freeze(index, columns):
        if index == 2:
            columns["images"]["front"][10:50] = columns["images"]["front"][10]

    root = filmed(freeze)
    finding = only(root, "frozen-camera")
    assert (finding.episodes, finding.frame, finding.camera) == ((2,), 10, "front")
    assert "shows the same picture while the robot moves in episode 2: in episode 2 for 2.0 s from frame 10 on" in finding.text
    assert findings_of(root, with_pixels=False) == ()


def test_a_camera_that_stands_still_with_the_arm_is_no_finding(filmed):
    def rest(index, columns):
        if index == 2:
            columns["images"]["front"][10:50] = columns["images"]["front"][10]
            columns["images"]["wrist"][10:50] = columns["images"]["wrist"][10]
            columns["state"][10:50] = columns["state"][10]

    assert findings_of(filmed(rest)) == ()


def test_a_frozen_video_is_named_in_spite_of_the_codecs_noise(tmp_path, monkeypatch):
    monkeypatch.setattr(foreign, "LENGTHS", (30, 30, 30))
    monkeypatch.setattr(foreign, "pixels", lambda episode, length: np.repeat(
        np.random.default_rng(episode).integers(0, 256, (1, 8, 12, 3), np.uint8).repeat(4, 1).repeat(4, 2), length, axis=0
    ))  # fmt: skip
    found = findings_of(foreign.write_v30(tmp_path / "dataset", codec="libsvtav1"))
    assert [finding.episodes for finding in found if finding.code == "frozen-camera"] == [(0, 1, 2)]


@pytest.mark.parametrize(("black", "severity"), [((4,), Severity.ERROR), (range(8), Severity.WARNING)])
def test_a_black_camera_is_named(black, severity, filmed):
    def darken(index, columns):
        if index in black:
            columns["images"]["wrist"][20:] = 3

    finding = only(filmed(darken), "black-camera")
    assert (finding.severity, finding.episodes, finding.frame) == (severity, tuple(black), 20)
    assert f"episode {black[0]} for 2.0 s from frame 20 on" in finding.text


def test_cameras_that_are_exchanged_in_some_episodes_are_named(tmp_path):
    def swap(index, columns):
        if index in (1, 5):
            images = columns["images"]
            columns["images"] = {"front": images["wrist"], "wrist": images["front"]}

    same = (16, 16, 3)
    root = recordings.record(tmp_path / "dataset", change=swap, cameras={"front": same, "wrist": same})
    finding = only(root, "swapped-cameras")
    assert (finding.severity, finding.episodes) == (Severity.ERROR, (1, 5))
    assert "cameras front and wrist are exchanged in episodes 1 and 5" in finding.text


def test_an_image_that_cannot_be_decoded_is_named_and_the_check_goes_on(sound):
    path = sound / layout.data_path(3)
    table = pq.read_table(path)
    images = table[WRIST].to_pylist()
    images[9]["bytes"] = images[9]["bytes"][:30]
    place = table.schema.get_field_index(WRIST)
    pq.write_table(table.set_column(place, table.field(place), [images]), path)
    finding = only(sound, "unreadable")
    assert (finding.episodes, finding.camera) == ((3,), "wrist")
    assert "camera wrist, frame 9: the image cannot be decoded" in finding.text
    assert findings_of(sound, with_pixels=False) == ()
