"""LeRobot's own arm, leader and camera behind the bridge: a station in LeRobot's environment, limits and takeover included.

It runs where that environment is (`make lerobot-env`, or OPENTAU_LEROBOT_PYTHON).
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
import zmq
from PIL import Image

from opentau.errors import OptionError
from opentau.rollout.lerobot_environment import lerobot_python
from opentau.rollout.session import RolloutSession
from opentau.types import ActionChunk, Episode, Interface, Outcome, Phase, PolicyRequest, Source
from robot_bridge.playing.chunking import ChunkingOptions
from robot_bridge.robots.calibration import GRIPPER, JOINTS, units_of, write_calibration
from robot_bridge.robots.emulator_control import EmulatorClient
from tests.robots.calibrated import CALIBRATION, ZERO_TICKS
from tests.unit.rollout.sessions import options, plan

try:
    lerobot_python()
except OptionError as error:
    pytestmark = [pytest.mark.lerobot, pytest.mark.skip(reason=str(error))]
else:
    pytestmark = [pytest.mark.lerobot, pytest.mark.timeout(600)]

START = (0.1, -0.2, 0.3, 0.0, 0.5, -0.4)
SHADE, HEIGHT, WIDTH = 90, 24, 32
NAMES = tuple(f"{joint}.pos" for joint in JOINTS)
AXIS = {"low": -100, "high": 100, "velocity": 90, "acceleration": 900}
LIMITS = {
    "axes": {name: AXIS | ({"low": 0} if name.startswith(GRIPPER) else {}) for name in NAMES},
    "max_reading_age_s": 2.0,
    "first_run_scale": 1.0,
}
MAX_STEPS, TURN_RAD = 240, 0.6


class PanPolicy:
    """Turns the arm slowly about its first axis."""

    action_horizon, policy_version = 16, "pan-1"

    def __init__(self) -> None:
        units = units_of(use_degrees=True)
        self.interface = Interface(
            cameras={"front": (HEIGHT, WIDTH, 3)}, state_names=NAMES, state_units=units, action_names=NAMES, action_units=units,
            action_space="absolute_joint", control_hz=20.0,
        )  # fmt: skip
        self.seen: list[np.ndarray] = []

    def infer(self, requests: Sequence[PolicyRequest]) -> list[ActionChunk]:
        self.seen += [request.observation.images["front"] for request in requests]
        ticks = np.arange(1, self.action_horizon + 1)[:, None] * np.eye(1, len(NAMES))
        poses = [(request.observation.state + 0.3 * ticks).astype(np.float32) for request in requests]
        return [ActionChunk(actions=pose, policy_version=self.policy_version) for pose in poses]


@contextlib.contextmanager
def emulated(folder: Path, name: str) -> Iterator[EmulatorClient]:
    """Run an emulated arm as a program of its own."""
    write_calibration(folder / f"{name}.json", CALIBRATION)
    spec = {
        "plant": {"target": "robot_bridge.robots.plant:FirstOrderArm", "args": {"start": list(START)}},
        "link": str(folder / f"{name}-port"),
        "calibration": str(folder / f"{name}.json"),
        "zero_ticks": ZERO_TICKS,
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(spec))
    command = [sys.executable, "-P", "-m", "robot_bridge.robots.emulator", str(folder / f"{name}.yaml")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        client = EmulatorClient(json.loads(process.stdout.readline())["control"], timeout_s=60.0)
        yield client
        client.close()
    finally:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def published_pictures() -> Iterator[int]:
    """Publish a grey picture twenty times a second, as LeRobot's network camera reads it; give the port."""
    coded, context, ended = io.BytesIO(), zmq.Context(), threading.Event()
    Image.fromarray(np.full((HEIGHT, WIDTH, 3), SHADE, np.uint8)).save(coded, "JPEG")
    message = json.dumps({"images": {"front": base64.b64encode(coded.getvalue()).decode()}, "timestamps": {}})
    socket = context.socket(zmq.PUB)
    socket.setsockopt(zmq.LINGER, 0)
    port = socket.bind_to_random_port("tcp://127.0.0.1")

    def publish() -> None:
        while not ended.wait(0.05):
            socket.send_string(message)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield port
    finally:
        ended.set()
        thread.join()
        socket.close()
        context.term()


def device(kind: str, name: str, folder: Path, **more: Any) -> list[str]:
    """Return the options that choose one of LeRobot's arms."""
    said = {"port": str(folder / f"{name}-port"), "id": name, "calibration_dir": str(folder), "num_read_retries": 20, **more}
    arm = "follower" if kind == "robot" else "leader"
    return [
        f"{kind}=lerobot",
        f"{kind}.args.type=so101_{arm}",
        *(f"+{kind}.args.options.{key}={value}" for key, value in said.items()),
    ]


def camera_at(port: int) -> str:
    size = f"width: {WIDTH}, height: {HEIGHT}, fps: 20"
    return f"{{type: zmq, server_address: 127.0.0.1, port: {port}, camera_name: front, {size}}}"


def take_the_leader(leader: EmulatorClient, *, policy: PanPolicy, ended: threading.Event) -> None:
    """Once the policy acts, squeeze the leader's trigger, turn the arm, open the hand, and let the arm lie."""
    closed = (CALIBRATION[GRIPPER].range_min - 2048) * 2 * np.pi / 4096
    while not policy.seen and not ended.wait(0.05):
        pass
    for step in range(120):
        pan = TURN_RAD * min(1.0, max(0.0, (step - 40) / 40))
        leader.ask("move_by_hand", positions=[START[0] + pan, *START[1:5], closed if 20 <= step < 100 else START[5]])
        if ended.wait(0.05):
            return


def test_lerobots_arm_plays_within_our_limits_and_is_taken_over_by_lerobots_leader(tmp_path: Path) -> None:
    (tmp_path / "arm.yaml").write_text(
        yaml.safe_dump({"tasks": {"arm/0": {"prompt": "turn", "max_steps": MAX_STEPS}}, "limits": "limits.yaml"})
    )
    (tmp_path / "limits.yaml").write_text(yaml.safe_dump(LIMITS))
    episodes: list[Episode] = []
    policy, ended = PanPolicy(), threading.Event()
    rollout = options(num_stations=0, tasks={"arm/0": {}}, chunking=ChunkingOptions(mode="blend"), execute_horizon=8)
    with (
        emulated(tmp_path, "follower") as follower,
        emulated(tmp_path, "leader") as leader,
        published_pictures() as picture_port,
        open(tmp_path / "log", "wb") as log,
    ):
        with RolloutSession(rollout, policies={"p": policy}) as session:
            station = session.station_config("arm")
            words = [*device("robot", "follower", tmp_path), "robot.args.control_hz=20"]
            words += [f"+robot.args.options.cameras.front={camera_at(picture_port)}"]
            words += [*device("teleop", "leader", tmp_path), "takeover.moves_robot=true", "takeover.align_speed=1.0"]
            words += [f"{plane}_endpoint={getattr(station, f'{plane}_endpoint')}" for plane in ("inference", "control")]
            command = [sys.executable, "-P", "-m", "opentau.cli.main", "robot", "connect", str(tmp_path / "arm.yaml"), *words]
            connected = subprocess.Popen([*command, "--to", "127.0.0.1:1", "--once"], stdout=log, stderr=log)
            hand = threading.Thread(target=take_the_leader, args=[leader], kwargs={"policy": policy, "ended": ended})
            hand.start()
            try:
                (result,) = session.run([plan(0, task_id="arm/0")], on_episode=lambda _, episode: episodes.append(episode))
            finally:
                ended.set()
                hand.join()
        assert connected.wait(60) == 0, (tmp_path / "log").read_text()
        power = set(follower.ask("registers", name="Torque_Enable").values())
    assert result.outcome is Outcome.TIMEOUT, (tmp_path / "log").read_text()
    (episode,) = episodes
    assert len(episode) == MAX_STEPS
    path = episode.executed_action.astype(np.float64)
    assert (np.abs(np.diff(path, axis=0)) <= 90 / 20 + 1e-3).all()
    assert (np.abs(np.diff(path, n=2, axis=0)) <= 900 / 400 + 1e-3).all()
    assert np.abs(episode.state[1:, 0] - path[:-1, 0]).max() < 10.0, "the arm follows what it is sent"
    phases = episode.robot["fsm_state"]
    assert [Phase(phase) for phase in dict.fromkeys(phases.tolist())] == [
        Phase.RESUME, Phase.AUTONOMOUS, Phase.PAUSED, Phase.ALIGN, Phase.HUMAN,
    ]  # fmt: skip
    human = phases == Phase.HUMAN
    assert set(episode.source[human]) == {Source.INTERVENTION}
    turned = episode.executed_action[human, 0]
    assert turned[-1] - turned[0] > 20.0, "the leader turned it"
    assert phases[-1] in (Phase.AUTONOMOUS, Phase.RESUME), "and gave it back"
    pictures = episode.images["front"]
    assert pictures.shape == (MAX_STEPS, HEIGHT, WIDTH, 3)
    assert np.abs(pictures.astype(int) - SHADE).max() <= 3
    assert np.abs(policy.seen[0].astype(int) - SHADE).max() <= 3
    assert power == {1}, "it holds its pose after it was let go"


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (["robot.args.type=so102_follower"], "LeRobot knows no 'so102_follower' here.*so101_follower"),
        (["+robot.args.options.prot=x"], "LeRobot does not take these options of so101_follower"),
        (["robot.args.speed=3"], "takes no option 'speed'"),
        (["robot.args.type=hope_jr_hand", "robot.args.options={port: x, side: left}"], r"in which unit .*set units\."),
    ],
)
def test_what_lerobot_does_not_know_is_refused_in_words(tmp_path: Path, changes: list[str], match: str) -> None:
    (tmp_path / "limits.yaml").write_text(yaml.safe_dump(LIMITS))
    (tmp_path / "arm.yaml").write_text(
        yaml.safe_dump({"tasks": {"arm/0": {"prompt": "p", "max_steps": 5}}, "limits": "limits.yaml"})
    )
    words = [*device("robot", "follower", tmp_path), *changes]
    command = [sys.executable, "-P", "-m", "opentau.cli.main", "robot", "connect", str(tmp_path / "arm.yaml"), *words]
    done = subprocess.run([*command, "--to", "127.0.0.1:9"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert re.search(match, done.stderr, re.DOTALL), done.stderr
    assert "Traceback" not in done.stderr
