"""`opentau robot twin`: an emulated SO-101 in real time, with the files that a real arm has."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from opentau.cli.compose import parser
from opentau.config import locate
from opentau.errors import RobotError
from robot_bridge.robots.twin import announced, twin_limits, write_emulator, write_workcell

PLANT, FACTS = "envs.twin.plant:So101Plant", "envs.twin.environment:facts_of_hardware"
CORRECTOR = {
    "env": {"target": "envs.twin.environment:So101Env", "args": {"image_size": 8}},
    "expert": {"target": "envs.experts.so101:So101Expert", "args": {}},
    "supervisor": {  # as of the simulators beside it, in experiment=twin
        "target": "robot_bridge.supervisors:EpisodeSupervisor",
        "args": {"num_progress_dims": 3, "movement_tolerance": 2.0},
    },
}
DESCRIPTION = """Run an emulated SO-101 until Ctrl-C: six servos that speak Feetech's packets on a pseudo-terminal, moved by a
MuJoCo twin in real time, with a camera (Linux; extras `robot` and `sim`).
  opentau robot twin FOLDER                       it writes FOLDER/robot.yaml, what `robot check | record | connect` take
  opentau robot check FOLDER/robot.yaml           … as for a real arm
  opentau loop experiment=twin +rollout.listen=127.0.0.1:5600      and, beside it,
  opentau robot connect FOLDER/robot.yaml --to 127.0.0.1:5600      have it play in a run
A scripted person sets its scene up and says when it succeeded; with --corrects one also takes over as a human would."""


def main(argv: Sequence[str]) -> int:
    """Write the files, start the emulator, and wait for its end."""
    arguments = parser("robot twin", DESCRIPTION, takes_options=False)
    arguments.add_argument("folder", type=Path, help="where the files go; it is made")
    arguments.add_argument("--image-size", type=int, default=64, help="pixels of the camera (default 64, as env=twin/so101)")
    arguments.add_argument("--placement-range", type=float, default=0.5, help="0: cube at home, 1: anywhere (default 0.5)")
    arguments.add_argument("--corrects", action="store_true", help="the task's expert takes over where the arm is in trouble")
    parsed = arguments.parse_args(argv)
    folder = parsed.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    plant = {"target": PLANT, "args": {"placement_range": parsed.placement_range, "keeps_arm": True}}
    facts = locate(FACTS)()
    spec = write_emulator(folder, plant=plant)
    command = [sys.executable, "-P", "-m", "robot_bridge.robots.emulator", str(spec)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as emulator:
        assert emulator.stdout is not None
        line = emulator.stdout.readline()
        if not line:
            raise RobotError(f"the emulator ended with {emulator.wait()} before it was ready; what it said is above")
        workcell = write_workcell(
            folder,
            control=announced(line),
            camera=facts["camera"],
            image_size=parsed.image_size,
            limits=twin_limits(facts["ranges_rad"], facts["start_rad"]),
            tasks=facts["tasks"],
            corrector=CORRECTOR if parsed.corrects else None,
        )
        print(f"an emulated SO-101 is on {folder / 'port'}; its workcell is {workcell}; Ctrl-C ends it", flush=True)
        try:
            return emulator.wait()
        except KeyboardInterrupt:
            emulator.terminate()
            emulator.wait()
    return 0
