"""One run and one arm in processes of their own, with every recording audited: what tests of faults begin with."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from opentau.types import Outcome, Phase
from robot_bridge.workcell.safety import Hold
from tests.faults.dated_policy import EPISODE, HORIZON, INDEX, SCALE, TICK, episode_mark
from tests.faults.run import ARM, RECORDED
from tests.faults.twin_arm import SIZE, commands_in, limits_of_twin, stamps_of

# Shapes: T frames, J = 6 joints.

DEADLINE_S = 150.0
"""Far beyond what anything here takes on a machine with nothing else to do."""
ROOT = Path(__file__).parents[2]
IMAGES = "images.front"


def until(condition: Callable[[], Any], *, why: str, timeout_s: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen in time: {why}"
        time.sleep(0.01)


@dataclass(kw_only=True)
class Scene:
    """A folder with a run and an arm; every process is known by the number with which it was started here."""

    folder: Path
    num_episodes: int = 2
    num_ticks: int = 60
    infer_s: float = 0.02
    size: int = SIZE
    keys: str = ""
    has_policy_process: bool = False
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.control_port, self.inference_port, self.viewing_port = _free_ports(3)
        names = ("num_episodes", "num_ticks", "infer_s", "size", "keys", "has_policy_process")
        ports = ("control_port", "inference_port", "viewing_port")
        self.folder.mkdir(exist_ok=True)
        (self.folder / "run.json").write_text(json.dumps({name: getattr(self, name) for name in names + ports}))
        limits = limits_of_twin() | {"abort_after_s": DEADLINE_S, "max_reading_age_s": DEADLINE_S}
        (self.folder / "limits.yaml").write_text(yaml.safe_dump(limits))

    @property
    def log(self) -> Path:
        """Where the arm writes down every command."""
        return self.folder / "commands"

    @property
    def num_commands(self) -> int:
        return len(commands_in(self.log))

    def start(self, *command: str, name: str) -> subprocess.Popen[bytes]:
        """Start a program that says what it has to say into NAME.log."""
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with open(self.folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        self.started.append(process)
        return process

    def start_run(self, *wrapper: str) -> subprocess.Popen[bytes]:
        """Start the run and return once stations may dial in."""
        (self.folder / "template.yaml").unlink(missing_ok=True)
        process = self.start(sys.executable, "-P", "-m", *wrapper, "tests.faults.run", str(self.folder), name="run")
        until(lambda: (self.folder / "template.yaml").is_file() or process.poll() is not None, why="the run begins")
        assert process.poll() is None, self.said("run")
        return process

    def start_arm(self, *wrapper: str, before: Sequence[str] = (), **changes: Any) -> subprocess.Popen[bytes]:
        """Start the station; `wrapper`: a module that runs it, `before`: a command that does."""
        plain = yaml.safe_load((self.folder / "template.yaml").read_text())
        arm = {"target": "tests.faults.twin_arm:TwinArm", "args": {"log": str(self.log), "size": self.size}}
        of_arm = {"env": {}, "robot": arm, "limits": "limits.yaml", "spool": str(self.folder / "spool"), "heartbeat_s": 0.25}
        patience = {"reconnect_s": DEADLINE_S, "server_silence_s": 20.0, "answer_timeout_s": DEADLINE_S}
        file = self.folder / "arm.yaml"
        file.write_text(yaml.safe_dump(plain | of_arm | patience | changes))
        python = (sys.executable, "-P", "-m", *wrapper, "robot_bridge.station", str(file))
        return self.start(*before, *python, name=ARM)

    def let_play(self, num_ticks: int, *, arm: subprocess.Popen[bytes]) -> None:
        """Return once the arm was sent so many more commands."""
        goal = self.num_commands + num_ticks
        until(lambda: self.num_commands >= goal or arm.poll() is not None, why=f"{num_ticks} more commands to the arm")
        assert arm.poll() is None, self.said(ARM)

    def finish(self, run: subprocess.Popen[bytes], arm: subprocess.Popen[bytes]) -> None:
        """Wait until both have ended as they should."""
        until(lambda: run.poll() is not None, why="the run ends")
        assert run.returncode == 0, self.said("run")
        until(lambda: arm.poll() is not None, why="the station is dismissed")
        assert arm.returncode == 0, self.said(ARM)

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")[-4000:]

    def episodes(self) -> list[dict[str, np.ndarray]]:
        """Return what was recorded, in plan order, audited: each episode once, no frame lost or doubled, none stale."""
        recordings = sorted(int(line) for line in (self.folder / "episodes" / "recordings").read_text().split())
        assert recordings == list(range(self.num_episodes)), "each episode is recorded once"
        spool = self.folder / "spool"
        assert not spool.is_dir() or not [*spool.iterdir()], "nothing is left behind"
        paths = [self.folder / "episodes" / f"{index}{RECORDED}" for index in range(self.num_episodes)]
        episodes = [dict(np.load(path)) for path in paths]
        commands = commands_in(self.log)
        for episode in episodes:
            audit_frames(episode, commands, num_ticks=self.num_ticks)
            audit_plans(episode)
            audit_holds(episode)
        stamps = np.concatenate([stamps_of(episode[IMAGES]) for episode in episodes])
        assert len(set(stamps.tolist())) == len(stamps), "no frame is in two episodes"
        return episodes


def audit_frames(episode: dict[str, np.ndarray], commands: np.ndarray, *, num_ticks: int) -> None:
    """Compare a recording with the arm's own log: exactly one command a frame, the recorded one, in order, no gap."""
    stamps = stamps_of(episode[IMAGES])
    assert (np.diff(stamps) == 1).all(), f"frames were lost or doubled: {stamps.tolist()}"
    np.testing.assert_array_equal(commands[stamps], episode["executed_action"])
    is_whole = len(stamps) == num_ticks
    assert is_whole == (str(episode["outcome"]) == Outcome.TIMEOUT), (len(stamps), episode["outcome"])
    assert len({len(column) for name, column in episode.items() if column.ndim}) == 1


def audit_plans(episode: dict[str, np.ndarray]) -> None:
    """Check that every action was proposed for the tick in which it was played, and that newer answers win.

    A chunk's action i belongs to the tick of its observation plus i. Where the robot held for the answer, all of the chunk
    moves by as many ticks as it held, in which nothing was proposed.
    """
    proposed = episode["policy_action"]
    is_fresh = np.isfinite(proposed).all(axis=1)
    ticks = np.flatnonzero(is_fresh)
    asked, index = (np.rint(proposed[ticks, axis] / SCALE).astype(int) for axis in (TICK, INDEX))
    assert (proposed[ticks, EPISODE] == SCALE * episode_mark(int(episode["seed"]))).all(), "a chunk of another episode"
    assert ((index >= 0) & (index < HORIZON)).all()
    assert (np.diff(asked) >= 0).all(), "an older answer was played after a newer one"
    for request in np.unique(asked):
        moved = np.unique((ticks - asked - index)[asked == request])
        assert len(moved) == 1, f"the chunk for tick {request} was played {moved.tolist()} ticks late"
        assert moved[0] >= 0, "actions from the future"
        assert not is_fresh[request : request + moved[0]].any(), f"the chunk for tick {request} was played late, not held for"


def audit_holds(episode: dict[str, np.ndarray]) -> None:
    """Check that the arm holds within two ticks of one without an action, and comes to rest.

    Before the first plan of all, and after a stall of its own program, it is at rest for want of a plan (`Phase.RESUME`).
    """
    is_fresh = np.isfinite(episode["policy_action"]).all(axis=1)
    level = episode["hold_level"]
    is_held = (level != Hold.NONE) | (episode["fsm_state"] == Phase.RESUME)
    late = [tick for tick in range(2, len(level)) if not is_fresh[tick - 2 : tick + 1].any() and not is_held[tick]]
    assert not late, f"no hold in the ticks {late}"
    steps = np.abs(np.diff(episode["executed_action"].astype(np.float64), axis=0))
    is_braking = is_held & ~is_fresh & (level <= Hold.DECELERATE)
    for tick in range(2, len(level)):
        if is_braking[tick] and is_braking[tick - 1]:
            assert (steps[tick - 1] <= steps[tick - 2] + 1e-3).all(), f"the arm gained speed in tick {tick} while it held"


def num_held(episode: dict[str, np.ndarray], *, after: int = 0) -> int:
    """Return the ticks after a given one in which there was nothing to play."""
    return int((~np.isfinite(episode["policy_action"]).all(axis=1))[after:].sum())


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL a process that was started here."""
    assert process.poll() is None, "it ended by itself"
    os.kill(process.pid, signal.SIGKILL)
    process.wait(DEADLINE_S)


@contextmanager
def scenes(folder: Path) -> Iterator[Callable[..., Scene]]:
    """Yield a function that makes a scene; afterwards nothing that it started runs any more."""
    with ExitStack() as stack:

        def make(**options: Any) -> Scene:
            scene = Scene(folder=folder, **options)
            stack.callback(_end_all, scene.started)
            return scene

        yield make


def _end_all(started: list[subprocess.Popen[bytes]]) -> None:
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait(DEADLINE_S)
        assert not Path(f"/proc/{process.pid}").exists()


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
