"""LeRobot's policy folders: what is read of them without LeRobot, and whom they fit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from opentau.errors import CheckpointError, InterfaceMismatch, OptionError
from opentau.policies.lerobot.folder import LeRobotFolder, is_lerobot_folder, write_interface
from opentau.policies.lerobot.start import lerobot
from tests.fakes import counting_interface

ROBOT = counting_interface()


def folder(path: Path, *, cameras: dict[str, list[int]] | None = None, state_dim: int = 4, **inputs: object) -> Path:
    cameras = cameras or {"observation.images.agentview": [3, 8, 8]}
    seen = {key: {"type": "VISUAL", "shape": shape} for key, shape in cameras.items()}
    config = {
        "type": "act",
        "input_features": {**seen, "observation.state": {"type": "STATE", "shape": [state_dim]}, **inputs},
        "output_features": {"action": {"type": "ACTION", "shape": [2]}},
    }
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    return path


def test_the_part_of_the_robot_that_the_policy_uses_is_what_it_is_asked_with(tmp_path):
    used, keys = LeRobotFolder.read(folder(tmp_path)).fit(ROBOT)
    assert used == dataclasses.replace(ROBOT, cameras={"agentview": (8, 8, 3)})
    assert keys == {"agentview": "observation.images.agentview"}


def test_cameras_of_other_names_are_told_apart_by_the_option_alone(tmp_path):
    other = LeRobotFolder.read(folder(tmp_path, cameras={"observation.image": [3, 8, 8]}))
    with pytest.raises(OptionError, match=r"through the cameras \['image'\], the robot has \['agentview', 'wrist'\]"):
        other.fit(ROBOT)
    with pytest.raises(OptionError, match=r"no camera 'imag'\. Did you mean 'image'"):
        other.fit(ROBOT, camera_names={"imag": "wrist"})
    assert other.fit(ROBOT, camera_names={"image": "wrist"})[1] == {"wrist": "observation.image"}


def test_a_mismatch_shows_both_sides(tmp_path):
    small = LeRobotFolder.read(folder(tmp_path, cameras={"observation.images.wrist": [3, 4, 8]}, state_dim=5))
    with pytest.raises(InterfaceMismatch) as caught:
        small.fit(counting_interface(action_names=("dx", "dy", "dz")))
    assert caught.value.rows == [
        ("camera wrist", [4, 8, 3], [8, 8, 3]),
        ("state dimensions", 5, 4),
        ("action dimensions", 2, 3),
    ]


def test_the_robot_that_is_written_beside_the_policy_is_compared_down_to_its_units(tmp_path):
    write_interface(folder(tmp_path), ROBOT)
    read = LeRobotFolder.read(tmp_path)
    assert read.fit(ROBOT)[0].control_hz == ROBOT.control_hz
    with pytest.raises(InterfaceMismatch, match=r"control_hz: policy expects 20\.0, station offers 30\.0"):
        read.fit(dataclasses.replace(ROBOT, control_hz=30.0))


def test_what_no_request_brings_is_refused(tmp_path):
    wanting = folder(tmp_path, **{"observation.environment_state": {"type": "ENV", "shape": [3]}})
    with pytest.raises(CheckpointError, match=r"wants to see observation\.environment_state"):
        LeRobotFolder.read(wanting)


def test_other_folders_are_none(tmp_path):
    assert not is_lerobot_folder(tmp_path)
    (tmp_path / "config.json").write_text('{"policy": {}}')
    assert not is_lerobot_folder(tmp_path)
    with pytest.raises(CheckpointError, match="is no policy of LeRobot's"):
        LeRobotFolder.read(tmp_path)


def test_equal_files_have_equal_ids_wherever_they_lie(tmp_path):
    first, second = folder(tmp_path / "a"), folder(tmp_path / "b")
    assert LeRobotFolder.read(first).id == LeRobotFolder.read(second).id
    (second / "model.safetensors").write_bytes(b"other weights")
    assert LeRobotFolder.read(first).id != LeRobotFolder.read(second).id


def test_a_start_from_a_folder_depends_on_its_content_and_not_on_its_place(tmp_path):
    sizes = {"cameras": ("agentview",), "state_dim": 4, "action_dim": 2}
    starts = [lerobot(checkpoint=str(folder(tmp_path / name)), type="diffusion", **sizes) for name in ("a", "b")]
    assert starts[0].to_dict() == starts[1].to_dict()
    assert starts[0].type == "act"
