"""LeRobot's own trainer, ended when the process that started it ends: `python -P -m lerobot_side.train PID --policy.type=…`."""

from __future__ import annotations

import sys

from robot_bridge.parents import die_with_parent


def main() -> None:
    """Hand all arguments but the first to `lerobot-train`."""
    die_with_parent(int(sys.argv.pop(1)))
    from lerobot.scripts.lerobot_train import main as train  # takes seconds; the parent may be gone by then

    train()


if __name__ == "__main__":
    main()
