"""`opentau robot` from find to record, on emulator programs that run as processes of their own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from opentau.cli.main import main
from opentau.data.lerobot.dataset import Dataset
from opentau.errors import RobotError
from opentau.types import Outcome, Phase, Source
from robot_bridge.robots.calibration import JOINTS, read_calibration
from robot_bridge.robots.emulator_control import EmulatorClient
from robot_bridge.workcell.safety import Clip
from tests.robots.calibrated import CALIBRATION, PATIENT_S, ZERO_TICKS

FOLLOWER, LEADER = "robot_bridge.robots.so101:So101Follower", "robot_bridge.robots.so101:So101Leader"


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Return a function that types lines into the command's terminal."""
    read, write = os.pipe()
    with os.fdopen(read) as source, os.fdopen(write, "w") as target:
        monkeypatch.setattr(sys, "stdin", source)

        def type_lines(text: str) -> None:
            target.write(text)
            target.flush()

        yield type_lines
        target.write("q\n" * 3)


def run_with_stderr(*arguments: str, on_line: Callable[[str], None]) -> int:
    """Run a command and react to what it says on stderr."""

    class Listener(io.StringIO):
        def write(self, text: str) -> int:
            for line in filter(None, text.split("\n")):
                on_line(line)
            return len(text)

    with contextlib.redirect_stderr(Listener()):
        return main(list(arguments))


def arm_yaml(path: Path, calibration: Path, follower: SimpleNamespace, leader: SimpleNamespace | None = None) -> str:
    camera = {
        "target": "robot_bridge.robots.cameras:EmulatedCamera",
        "args": {"control": follower.control, "camera": "front", "width": 32, "height": 24, "rate_hz": 20},
    }
    patience = {"reply_timeout_s": PATIENT_S, "max_state_age_s": 1.0, "max_image_age_s": 2.0}
    args = {
        "port": follower.port,
        "calibration": str(calibration),
        "cameras": {"front": camera},
        "control_hz": 20.0,
        **patience,
    }
    spec: dict[str, Any] = {"robot": {"target": FOLLOWER, "args": args}}
    if leader is not None:
        args = {"port": leader.port, "calibration": str(calibration), "reply_timeout_s": PATIENT_S}
        spec["teleop"] = {"target": LEADER, "args": args}
    path.write_text(yaml.safe_dump(spec))
    return str(path)


def test_find_names_the_motors_on_a_port_and_collisions(programs, capsys):
    arm = programs(ids=[1, 2, 3, 4, 5, 5], calibration="")
    assert main(["robot", "find", "--port", arm.port, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["ports"][arm.port]
    assert sorted(found["1000000"]["motors"]) == ["1", "2", "3", "4"]
    assert found["1000000"]["collisions"]
    assert main(["robot", "find", "--port", arm.port]) == 0
    assert "run `opentau robot setup`" in capsys.readouterr().out


def test_setup_takes_one_motor_after_the_other(programs, typed, capsys):
    arm = programs(ids=[21, 22, 23, 24, 25, 26], calibration="")
    new_ids = {6: 26, 5: 25, 4: 24, 3: 23, 2: 22, 1: 21}

    def plug_only(line: str) -> None:
        if line.startswith("Connect the controller board"):
            motor = JOINTS.index(line.split(" of ")[1].split(" ")[0]) + 1
            others = [i for i in [*new_ids, *new_ids.values()] if i not in (motor, new_ids[motor])]
            arm.client.ask("faults", missing=others)
            typed("\n")

    assert run_with_stderr("robot", "setup", "--port", arm.port, on_line=plug_only) == 0
    assert "shoulder_pan: id 1 (it had 21 at 1000000 baud)" in capsys.readouterr().out
    arm.client.ask("restart_motors")
    assert sorted(map(int, arm.client.ask("registers", name="ID"))) == [1, 2, 3, 4, 5, 6]


def test_calibrate_measures_offsets_and_ranges_by_hand_and_check_then_passes(programs, typed, tmp_path, capsys):
    arm, out = programs(calibration=""), tmp_path / "mine.json"
    low, high = np.full(6, -1.0), np.full(6, 0.8)

    def move(line: str) -> None:
        if line.startswith("Hold the arm"):
            arm.client.ask("move_by_hand", positions=[0.1] * 6)
            time.sleep(0.1)
            typed("\n")
        elif line.startswith("Press Enter, then move"):
            threading.Thread(target=move_about).start()
            typed("\n")

    def move_about() -> None:
        client = EmulatorClient(arm.control)
        for pose in (low, high, np.zeros(6)):
            client.ask("move_by_hand", positions=pose.tolist())
            time.sleep(0.8)  # a loaded machine reads seldom
        client.close()
        typed("\n")

    assert run_with_stderr("robot", "calibrate", "--port", arm.port, "--out", str(out), on_line=move) == 0
    measured, per_rad = read_calibration(out), 4096 / (2 * np.pi)
    for joint, zero in zip(JOINTS, ZERO_TICKS, strict=True):
        assert measured[joint].homing_offset == zero + round(0.1 * per_rad) - 2047
        if joint == "wrist_roll":
            assert (measured[joint].range_min, measured[joint].range_max) == (0, 4095)
        else:
            assert abs(measured[joint].range_min - (2047 - 1.1 * per_rad)) <= 2
            assert abs(measured[joint].range_max - (2047 + 0.7 * per_rad)) <= 2
    arm.client.ask("restart_motors")
    assert list(arm.client.ask("registers", name="Homing_Offset").values()) == [m.homing_offset for m in measured.values()]
    capsys.readouterr()
    assert main(["robot", "check", arm_yaml(tmp_path / "arm.yaml", out, arm), "--json"]) == 0
    findings = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert list(findings) == ["port", "ids", "supply", "temperatures", "calibration", "ranges", "camera front"]
    assert findings["supply"]["text"] == "5.0, 5.0, 5.0, 5.0, 5.0, 5.0 V"


def test_a_joint_that_was_not_moved_is_no_calibration(programs, typed, tmp_path, capsys):
    arm, out = programs(calibration=""), tmp_path / "mine.json"
    typed("\n\n\n")
    assert main(["robot", "calibrate", "--port", arm.port, "--out", str(out)]) == 2
    assert "shoulder_pan moved by 0 ticks, at least 200 are needed" in capsys.readouterr().err
    assert not out.exists()


def test_an_existing_file_is_written_into_the_motors(programs, calibration_file):
    arm = programs(calibration="")
    assert main(["robot", "calibrate", "--port", arm.port, "--from", str(calibration_file)]) == 0
    arm.client.ask("restart_motors")
    held = arm.client.ask("registers", name="Max_Position_Limit")
    assert list(held.values()) == [entry.range_max for entry in CALIBRATION.values()]


@pytest.mark.parametrize(
    ("breaks", "name", "fix"),
    [
        (lambda arm: arm.ask("faults", missing=[3]), "ids", "check the cable of the first missing motor"),
        (lambda arm: arm.ask("set_id", motor=4, to=3), "ids", "give them their ids one at a time"),
        (lambda arm: arm.ask("voltage", volts=3.6), "supply", "check the power adapter"),
        (lambda arm: arm.ask("store", motor=6, name="Present_Voltage", value=41), "supply", "press the plugs in"),
        (lambda arm: arm.ask("store", motor=2, name="Present_Temperature", value=66), "temperatures", "let shoulder_lift cool"),
        (lambda arm: arm.ask("store", motor=5, name="Homing_Offset", value=9), "calibration", "robot calibrate --from FILE"),
        (lambda arm: arm.ask("move_by_hand", positions=[0, 0, 2.5, 0, 0, 0]), "ranges", "move it into its range by hand"),
        (lambda arm: arm.ask("unplug"), "port", "plug the arm in"),
    ],
)
def test_check_finds_what_is_broken_and_says_how_to_mend_it(programs, calibration_file, tmp_path, capsys, breaks, name, fix):
    arm = programs()
    breaks(arm.client)
    time.sleep(0.1)
    assert main(["robot", "check", arm_yaml(tmp_path / "arm.yaml", calibration_file, arm), "--json"]) == 1
    bad = {finding["name"]: finding["fix"] for finding in json.loads(capsys.readouterr().out) if not finding["is_good"]}
    assert fix in bad[name]


def test_check_moves_every_joint_when_told_and_switches_it_off_again(programs, calibration_file, tmp_path, capsys):
    arm = programs()
    path = arm_yaml(tmp_path / "arm.yaml", calibration_file, arm)
    checked = main(["robot", "check", path, "--move", "--json"])
    findings = json.loads(capsys.readouterr().out)
    assert not [finding for finding in findings if not finding["is_good"]]
    assert checked == 0
    names = [finding["name"] for finding in findings]
    assert [name for name in names if name.startswith("direction")] == [f"direction {joint}" for joint in JOINTS]
    assert set(arm.client.ask("registers", name="Torque_Enable").values()) == {0}


def test_demonstrations_are_recorded_and_the_pictures_then_match_the_dataset(
    programs, typed, calibration_file, tmp_path, capsys
):
    follower, leader = programs(), programs("leader")
    path, into = arm_yaml(tmp_path / "arm.yaml", calibration_file, follower, leader), tmp_path / "demos"
    endings = iter(["\n", "d\n", "f\n"])
    hand = EmulatorClient(leader.control)

    def act(line: str) -> None:
        if line.startswith("Episode"):
            hand.ask("move_by_hand", positions=[0.1, 0, 0, 0, 0, 0])
            typed("\n")
            threading.Timer(0.8, lambda: leader.client.ask("move_by_hand", positions=[0.4, 0, 0, 0, 0, 0.2])).start()
            threading.Timer(2.0, typed, args=[next(endings)]).start()
        elif line.startswith("Hold the arm"):
            typed("\n")

    arguments = ["--into", str(into), "--prompt", "pick up the cube", "--episodes", "2", "--lossless"]
    limits = {f"{joint}.pos": {"low": -80, "high": 100, "velocity": 200, "acceleration": 2000} for joint in JOINTS}
    limits["shoulder_pan.pos"]["high"] = 22.0  # 0.4 rad are 22.9 degrees
    (tmp_path / "limits.yaml").write_text(yaml.safe_dump({"axes": limits, "max_reading_age_s": 2.0}))
    arguments += ["--limits", str(tmp_path / "limits.yaml")]
    assert run_with_stderr("robot", "record", path, *arguments, on_line=act) == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()[:-1]]
    assert [each["outcome"] for each in shown] == ["success", "failure"]
    hand.close()
    dataset = Dataset(into)
    episode = dataset.load(0)
    assert (episode.outcome, dataset.load(1).outcome, episode.prompt) == (Outcome.SUCCESS, Outcome.FAILURE, "pick up the cube")
    assert set(episode.source) == {Source.DEMONSTRATION}
    assert np.isnan(episode.policy_action).all()
    assert (episode.reward[-1], episode.reward[:-1].max()) == (1, 0)
    moved = episode.action[-1, 0] - episode.action[0, 0]
    assert moved > 10
    assert episode.action[-1, 0] == 22.0, "the box is the limits', whatever the leader says"
    assert episode.robot["clip_mask"][-1, 0] == Clip.BOX
    assert set(episode.robot["fsm_state"]) == {Phase.HUMAN}, "the way to the leader is no part of it"
    assert (episode.limits_id, len(episode.limits_id)) == (dataset.load(1).limits_id, 64)
    assert np.abs(np.diff(episode.action, axis=0)).max() <= 200 / 20 + 1e-3
    assert abs(episode.state[-1, 0] - episode.action[-1, 0]) < 1.0
    assert dataset.interface.action_units[0] == "deg"
    assert set(follower.client.ask("registers", name="Torque_Enable").values()) == {0}

    follower.client.ask("move_by_hand", positions=[0.1, 0, 0, 0, 0, 0])
    checked = main(["robot", "check", path, "--dataset", str(into), "--out", str(tmp_path), "--json"])
    findings = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert not [finding for finding in findings.values() if not finding["is_good"]]
    assert (checked, "picture front" in findings) == (0, True)
    assert (tmp_path / "check-front.png").exists()


def test_the_stop_ends_a_demonstration_and_it_is_made_again(programs, typed, calibration_file, tmp_path, capsys):
    follower, leader = programs(), programs("leader")
    path, into = arm_yaml(tmp_path / "arm.yaml", calibration_file, follower, leader), tmp_path / "demos"
    limits = {f"{joint}.pos": {"low": -80, "high": 100, "velocity": 200, "acceleration": 2000} for joint in JOINTS}
    (tmp_path / "limits.yaml").write_text(yaml.safe_dump({"axes": limits, "max_reading_age_s": 2.0}))
    asked: list[str] = []

    def act(line: str) -> None:
        if line.startswith("Episode"):
            asked.append(line)
            is_first = len(asked) == 1
            typed("\n")
            later = (lambda: os.kill(os.getpid(), signal.SIGUSR1)) if is_first else (lambda: typed("\n"))
            threading.Timer(1.0, later).start()
        elif line.startswith("the stop is set"):
            threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGUSR2)).start()
        elif line.startswith(("episode", "Hold the arm")):
            asked.append(line)
            typed("\n" if line.startswith("Hold") else "")

    options = [f"limits={tmp_path / 'limits.yaml'}", "--into", str(into), "--prompt", "p", "--episodes", "1", "--lossless"]
    assert run_with_stderr("robot", "record", path, *options, on_line=act) == 0
    assert asked[1] == "episode 0 is not kept: stopped: SIGUSR1"
    assert len([line for line in asked if line.startswith("Episode 0")]) == 2
    assert len(Dataset(into)) == 1


def test_the_emulator_program_resets_its_plant_and_refuses_unknown_verbs(programs):
    arm = programs()
    arm.client.ask("reset", seed=5)
    assert np.abs(arm.client.ask("positions")).max() > 0
    assert arm.client.ask("is_success") is False
    with pytest.raises(RobotError, match="unknown verb 'jump'"):
        arm.client.ask("jump")
    arm.client.ask("stop")
    assert arm.process.wait(timeout=20) == 0
