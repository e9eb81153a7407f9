"""The process of a run: serves a policy, records what an arm that dials in plays, lets viewers follow: `python -m … FOLDER`."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from opentau.events import EventLog
from opentau.protocols import Policy
from opentau.rollout.options import RolloutOptions
from opentau.rollout.policy_process import PolicyProcess
from opentau.rollout.recorder import record
from opentau.rollout.session import RolloutSession
from opentau.types import Actor, Episode, EpisodePlan
from robot_bridge.playing.chunking import ChunkingOptions
from robot_bridge.viewing.desk import viewing
from tests.faults.dated_policy import DatedPolicy

TASK, STAGE, ARM, RECORDED = "twin_so101/0", "collect-1", "arm", ".npz"
NO_ENV = {"target": "tests.faults.twin_arm:TwinArm", "args": {}}
"""The template of a station needs one; the arm's file says that it is a robot."""


def plans(number: int) -> list[EpisodePlan]:
    return [
        EpisodePlan(
            index=index, episode_id=f"{STAGE}/{index}", task_id=TASK, seed=300 + index, actor=Actor.POLICY, policy_id="p"
        )
        for index in range(number)
    ]


class Writer:
    """Keeps an episode as a file of its plan's index, and a line for every time that it was asked to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def recorded(self) -> set[int]:
        return {int(path.stem) for path in self._folder.glob(f"*{RECORDED}")}

    def add(self, index: int, episode: Episode) -> None:
        partial, path = self._folder / f"{index}.partial", self._folder / f"{index}{RECORDED}"
        columns = {name: column for name, column in episode.columns().items() if not name.startswith("sim_")}
        with open(partial, "wb") as file:
            np.savez(file, outcome=str(episode.outcome), seed=episode.seed, episode_id=episode.episode_id, **columns)
            file.flush()
            os.fsync(file.fileno())
        with open(self._folder / "recordings", "a") as lines:
            lines.write(f"{index}\n")
        partial.rename(path)


@contextlib.contextmanager
def served(config: dict[str, Any], folder: Path) -> Any:
    """Yield the policy, in this process or in one whose number it writes down."""
    policy: Policy = DatedPolicy(infer_s=config["infer_s"], size=config["size"])
    if not config["has_policy_process"]:
        yield policy
        return
    process = PolicyProcess(
        lambda arguments: [sys.executable, "-P", "-m", "tests.faults.dated_policy", *arguments],
        interface=policy.interface,
        camera_keys={camera: camera for camera in policy.interface.cameras},
        policy_version=policy.policy_version,
        environment=lambda _: os.environ,
        log_path=folder / "policy.log",
    )
    with process:
        (folder / "policy.pid").write_text(str(process.pid))
        yield process


def main() -> None:
    folder = Path(sys.argv[1])
    config = json.loads((folder / "run.json").read_text())
    options = RolloutOptions(
        env=NO_ENV,
        tasks={TASK: {"prompt": "wave", "max_steps": config["num_ticks"]}},
        num_stations=0,
        execute_horizon=8,
        delay_ticks=2,
        chunking=ChunkingOptions(mode="naive"),
        keys=config["keys"],
        session="faults",
        control_port=config["control_port"],
        inference_port=config["inference_port"],
    )
    with (
        EventLog(folder / "run", "main") as log,
        viewing(folder / "run", host="127.0.0.1", port=config["viewing_port"], log=log),
        served(config, folder) as policy,
        RolloutSession(options, policies={"p": policy}, events=log, stage=STAGE) as session,
    ):
        session.station_config(ARM).save(folder / "template.partial")
        (folder / "template.partial").rename(folder / "template.yaml")
        record(session, plans(config["num_episodes"]), Writer(folder / "episodes"))


if __name__ == "__main__":
    main()
