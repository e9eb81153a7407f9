"""LeRobot's own SO-101 driver on a serial port, step by step, for comparisons; runs in LeRobot's environment.

    python so101_driver.py PORT CALIBRATION.json degrees|percent

Connects, then answers every line of stdin, a JSON list of six targets or null, with the six positions read after sending it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from lerobot.robots.so_follower import SO101Follower, SO101FollowerConfig

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")


def main(port: str, calibration: str, mode: str) -> None:
    """Drive the arm as told."""
    path = Path(calibration)
    config = SO101FollowerConfig(
        port=port,
        id=path.stem,
        calibration_dir=path.parent,
        use_degrees=mode == "degrees",
        disable_torque_on_disconnect=False,
    )
    robot = SO101Follower(config)
    robot.connect(calibrate=False)
    print(json.dumps({"is_calibrated": robot.is_calibrated}), flush=True)
    for line in sys.stdin:
        targets = json.loads(line)
        if targets is not None:
            robot.send_action({f"{joint}.pos": value for joint, value in zip(JOINTS, targets, strict=True)})
        observed = robot.get_observation()
        print(json.dumps([observed[f"{joint}.pos"] for joint in JOINTS]), flush=True)
    robot.disconnect()


if __name__ == "__main__":
    main(*sys.argv[1:])
