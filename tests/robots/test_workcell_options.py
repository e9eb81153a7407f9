"""What a robot's commands make of a file, of members of the groups, and of options over both."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from opentau.cli.compose import WORKCELL_GROUPS, groups
from opentau.cli.robot_connect import main as connect
from opentau.cli.robot_workcell import MISSING, check_plugins, compose_workcell
from opentau.config import locate
from opentau.errors import OptionError

PORT = "/dev/serial/by-id/usb-1a86_USB_Single-if00"
FILE = {
    "robot": {"target": "tests.fakes:FakeArm", "args": {"lag": 0.25}},
    "teleop": {"target": "robot_bridge.teleops.keyboard:KeyboardTeleop", "args": {"speed": 5.0}},
    "limits": "limits.yaml",
    "takeover": {"release_ticks": 9},
    "tasks": {"bench/pick": {"prompt": "pick", "max_steps": 5}},
}


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "arm.yaml").write_text(yaml.safe_dump(FILE))
    return str(tmp_path / "arm.yaml")


def test_a_file_alone_is_taken_as_it_is(file: str) -> None:
    assert compose_workcell([file]).plain == FILE


def test_options_stand_over_the_file_and_the_rest_of_it_stays(file: str) -> None:
    made = compose_workcell([file, "robot.args.lag=0.5", "takeover.moves_robot=true", "teleop.args.hold_s=1"]).plain
    assert made["robot"] == {"target": "tests.fakes:FakeArm", "args": {"lag": 0.5}}
    assert made["takeover"] == {"release_ticks": 9, "moves_robot": True}
    assert made["teleop"]["args"] == {"speed": 5.0, "hold_s": 1}
    assert {key: made[key] for key in ("limits", "tasks")} == {key: FILE[key] for key in ("limits", "tasks")}


def test_a_chosen_member_replaces_what_the_file_says_of_it(file: str) -> None:
    made = compose_workcell(["teleop=gamepad", file, "teleop.args.device=/dev/input/js1"]).plain
    assert made["teleop"]["target"].endswith(":GamepadTeleop")
    assert made["teleop"]["args"]["device"] == "/dev/input/js1"
    assert "hold_s" not in made["teleop"]["args"]
    for without in ("teleop=null", "~teleop"):
        assert "teleop" not in compose_workcell([file, without]).plain


def test_no_file_is_needed_where_the_options_say_everything() -> None:
    words = ["robot=so101", f"robot.args.port={PORT}", "robot.args.calibration=a.json", "limits=limits.yaml"]
    words.append("robot.args.cameras.front={target: robot_bridge.robots.usb_camera:UsbCamera, args: {device: d}}")
    made = compose_workcell(words)
    args = made.plain["robot"]["args"]
    assert (args["port"], args["calibration"], args["use_degrees"]) == (PORT, "a.json", True)
    assert args["cameras"]["front"]["args"] == {"device": "d"}
    assert made.plain["limits"] == str(Path("limits.yaml").absolute())


def test_a_file_may_choose_members_and_options_choose_others(tmp_path: Path) -> None:
    said = {"defaults": [{"robot": "so101"}, {"teleop": "keyboard"}], "robot": {"args": {"port": "P", "calibration": "c"}}}
    file = tmp_path / "arm.yaml"
    file.write_text(yaml.safe_dump(said))
    made = compose_workcell([str(file)]).plain
    assert made["robot"]["target"].endswith(":So101Follower")
    assert (made["robot"]["args"]["port"], made["robot"]["args"]["control_hz"]) == ("P", 30)
    assert compose_workcell([str(file), "robot=so101"]).plain == made, "the same choice keeps what the file says"
    assert compose_workcell([str(file), "teleop=gamepad"]).plain["teleop"]["target"].endswith(":GamepadTeleop")


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["robot=so101"], r"robot\.args\.port must be given"),
        (["robot=so102"], "there is no robot=so102.*so101"),
        ([], "the options has no 'robot"),
        (["a.yaml", "b.yaml"], "two files"),
        (["absent.yaml"], "cannot be read"),
        (["robot=so101", "robot.args.port.x=1"], "holds no names"),
    ],
)
def test_what_does_not_compose_says_what_to_do(words: list[str], match: str) -> None:
    with pytest.raises(OptionError, match=match):
        compose_workcell(words)


def test_a_misspelt_option_is_refused_before_anything_is_dialled(file: str) -> None:
    with pytest.raises(OptionError, match=r"'lagg'.*lag"):
        connect([file, "--to", "127.0.0.1:1", "robot.args.lagg=1"])
    with pytest.raises(OptionError, match=r"unknown option.*takover.*takeover"):
        connect([file, "--to", "127.0.0.1:1", "takover.release_ticks=1"])


@pytest.mark.parametrize(("group", "name"), [(g, n) for g, names in groups(WORKCELL_GROUPS).items() for n in names])
def test_every_member_names_a_plug_in_and_arguments_that_it_takes(group: str, name: str) -> None:
    folder = Path(__file__).parents[2] / "configs"
    member = yaml.safe_load((folder / group / f"{name}.yaml").read_text())
    asked = [f"{group}.args.{key}=1" for key, value in member["args"].items() if value == MISSING]
    plain = compose_workcell([f"{group}={name}", *asked], needs=(group,)).plain
    check_plugins(plain)  # of those of LeRobot's environment tests/lerobot does


@pytest.mark.parametrize("command", ["record", "check"])
def test_commands_that_cannot_load_lerobots_devices_say_who_can(command: str) -> None:
    words = ["robot=lerobot", "robot.args.type=koch_follower", "teleop=keyboard", "limits=limits.yaml"]
    arguments = ["--into", "x", "--prompt", "p", "--episodes", "1"] if command == "record" else []
    with pytest.raises(OptionError, match=f"lerobot-{'record' if command == 'record' else 'calibrate'}"):
        locate(f"opentau.cli.robot_{command}:main")([*words, *arguments])
